/** Takes the deliveries of an engine, jobs and notices: in the order of their numbers, each once. */
import type * as Turns from "../Protocol/Http/Turns.ts"
import { endsLease, type Job, type Notice } from "../Protocol/Worker.ts"

interface DeliveriesOptions {
  /** Whether the leases certainly hold. */
  readonly isSafe: () => boolean
  /** Does the same, and drops the turns when the leases may have ended. */
  readonly checkLeases: () => boolean
  readonly session: () => string | undefined
  readonly take: (job: Job, isPaused: boolean) => void
  /** Called for a job that was over before it was taken. */
  readonly pass: () => void
  readonly hear: (notice: Notice) => void
}

export class ReceivedDeliveries {
  readonly #options: DeliveriesOptions
  /** Number of the last delivery received. */
  seen = 0
  /** Deliveries that wait until everything that arrived with them was read. */
  #unread: Array<Turns.Delivery> | undefined

  constructor(options: DeliveriesOptions) {
    this.#options = options
  }

  deliver(deliveries: Turns.PollResponse["deliveries"]): void {
    if (deliveries.length === 0) return
    const { checkLeases, isSafe, session } = this.#options
    if (this.#unread === undefined && isSafe()) return this.#takeAll(deliveries)
    // what arrived while the process was frozen or too busy may belong to another worker by now: a later delivery may
    // say so
    if (this.#unread === undefined) {
      this.#unread = []
      const before = session()
      setImmediate(() => {
        const unread = this.#unread ?? []
        this.#unread = undefined
        if (before === session() && checkLeases()) this.#takeAll(unread)
      })
    }
    this.#unread.push(...deliveries)
  }

  /** A new session numbers its deliveries from the start. */
  startOver(): void {
    this.seen = 0
  }

  #takeAll(deliveries: Turns.PollResponse["deliveries"]): void {
    const fresh = deliveries.filter(({ seq }) => seq > this.seen)
    // a job is not started when a later delivery has already revoked or paused it
    const over = new Set<string>()
    const paused = new Map<string, boolean>()
    for (const delivery of fresh) {
      if ("job" in delivery) continue
      const { notice } = delivery
      if (endsLease(notice)) over.add(notice.jobId)
      else if (notice._tag !== "Fired") paused.set(notice.jobId, notice._tag === "Paused")
    }
    for (const delivery of fresh) {
      if (delivery.seq <= this.seen) continue
      this.seen = delivery.seq
      if ("notice" in delivery) this.#options.hear(delivery.notice)
      else if (over.has(delivery.job.jobId)) this.#options.pass()
      else this.#options.take(delivery.job, paused.get(delivery.job.jobId) === true)
    }
  }
}
