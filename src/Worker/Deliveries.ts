/** What an engine hands to a worker: jobs and notices, taken in the order of their numbers, each once. */
import type * as Turns from "../Protocol/Http/Turns.ts"
import { endsLease, type Job, type Notice } from "../Protocol/Worker.ts"

interface DeliveriesOptions {
  /** Whether the leases are sure to hold. */
  readonly isSafe: () => boolean
  /** The same, and drops the turns when they are not. */
  readonly checkLeases: () => boolean
  readonly session: () => string | undefined
  readonly take: (job: Job, isPaused: boolean) => void
  /** A job has come that is over already. */
  readonly pass: () => void
  readonly hear: (notice: Notice) => void
}

export class Deliveries {
  readonly #options: DeliveriesOptions
  /** Number of the last delivery received. */
  seen = 0
  /** Deliveries that are looked at when what came with them was read. */
  #unread: Array<Turns.Delivery> | undefined

  constructor(options: DeliveriesOptions) {
    this.#options = options
  }

  deliver(deliveries: Turns.PollResponse["deliveries"]): void {
    if (deliveries.length === 0) return
    const { checkLeases, isSafe, session } = this.#options
    if (this.#unread === undefined && isSafe()) return this.#takeAll(deliveries)
    // what has come while the process was frozen, or too busy to look, may belong to somebody else: what comes behind it may tell
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

  /** A new session counts anew. */
  startOver(): void {
    this.seen = 0
  }

  #takeAll(deliveries: Turns.PollResponse["deliveries"]): void {
    const fresh = deliveries.filter(({ seq }) => seq > this.seen)
    // what was taken back, or is to be paused, by the time that it arrives is not begun
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
