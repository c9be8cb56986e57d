/**
 * Takes the deliveries (jobs and notices) of an engine in the order of their numbers, and each of them once.
 */
import type * as Turns from "../Protocol/Http/Turns.ts"
import { endsLease, type Job, type Notice } from "../Protocol/Worker.ts"

interface DeliveriesOptions {
  /** Whether the leases still hold for certain. */
  readonly isSafe: () => boolean
  /** Whether the leases still hold for certain. If not, this drops the turns. */
  readonly checkLeases: () => boolean
  readonly session: () => string | undefined
  readonly take: (job: Job, isPaused: boolean) => void
  /** Called for a job that was revoked before it was taken. */
  readonly pass: () => void
  readonly hear: (notice: Notice) => void
}

export class ReceivedDeliveries {
  readonly #options: DeliveriesOptions
  /** Number of the last delivery that was taken. */
  seen = 0
  /** Deliveries that wait until everything that has arrived was read. */
  #unread: Array<Turns.Delivery> | undefined

  constructor(options: DeliveriesOptions) {
    this.#options = options
  }

  deliver(deliveries: Turns.PollResponse["deliveries"]): void {
    if (deliveries.length === 0) return
    const { checkLeases, isSafe, session } = this.#options
    if (this.#unread === undefined && isSafe()) return this.#takeAll(deliveries)
    // The leases may have ended while the process was frozen or too busy. What arrived in that time may
    // belong to another worker by now, and a later delivery may say so: so everything that has arrived is
    // read first.
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

  /** Begins with the deliveries of a new session, which are numbered from the start. */
  startOver(): void {
    this.seen = 0
  }

  #takeAll(deliveries: Turns.PollResponse["deliveries"]): void {
    const fresh = deliveries.filter(({ seq }) => seq > this.seen)
    // a job is not started when a delivery behind it has already revoked it or paused its run
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
