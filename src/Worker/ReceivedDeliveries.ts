/**
 * Takes the deliveries (jobs and notices) of an engine in the order of their numbers, and each delivery once.
 */
import type * as Turns from "../Protocol/Http/Turns.ts"
import { endsLease, type Job, type Notice } from "../Protocol/Worker.ts"

interface DeliveriesOptions {
  /** Whether the leases still hold for certain. */
  readonly isSafe: () => boolean
  /** Whether the leases still hold for certain. If they do not, drops the turns. */
  readonly checkLeases: () => boolean
  /** The id of the current session. */
  readonly session: () => string | undefined
  readonly onJob: (job: Job, isPaused: boolean) => void
  /** Called for a job that was revoked before it was taken. */
  readonly onRevokedJob: () => void
  readonly onNotice: (notice: Notice) => void
}

export class ReceivedDeliveries {
  readonly #options: DeliveriesOptions
  /** Number of the last delivery that was taken. */
  seen = 0
  /** Deliveries that wait until everything that has arrived in this process was read; `undefined` when none wait. */
  #unread: Array<Turns.Delivery> | undefined

  constructor(options: DeliveriesOptions) {
    this.#options = options
  }

  take(deliveries: Turns.PollResponse["deliveries"]): void {
    if (deliveries.length === 0) return
    const { checkLeases, isSafe, session } = this.#options
    if (this.#unread === undefined && isSafe()) return this.#takeAll(deliveries)
    // The leases may have ended while the process was frozen or too busy. Then the jobs that arrived in that time may
    // belong to another worker, and a later delivery may revoke them: so everything that has arrived is read first.
    if (this.#unread === undefined) {
      this.#unread = []
      const sessionAtArrival = session()
      setImmediate(() => {
        const unread = this.#unread ?? []
        this.#unread = undefined
        if (sessionAtArrival === session() && checkLeases()) this.#takeAll(unread)
      })
    }
    this.#unread.push(...deliveries)
  }

  /** Prepares for a new session, in which deliveries are numbered from the start again. */
  startOver(): void {
    this.seen = 0
  }

  #takeAll(deliveries: Turns.PollResponse["deliveries"]): void {
    const newDeliveries = deliveries.filter(({ seq }) => seq > this.seen)
    // a job is not started when a later delivery has already revoked the job or paused its run
    const revoked = new Set<string>()
    const paused = new Map<string, boolean>()
    for (const delivery of newDeliveries) {
      if ("job" in delivery) continue
      const { notice } = delivery
      if (endsLease(notice)) revoked.add(notice.jobId)
      else if (notice._tag !== "Fired") paused.set(notice.jobId, notice._tag === "Paused")
    }
    for (const delivery of newDeliveries) {
      if (delivery.seq <= this.seen) continue
      this.seen = delivery.seq
      if ("notice" in delivery) this.#options.onNotice(delivery.notice)
      else if (revoked.has(delivery.job.jobId)) this.#options.onRevokedJob()
      else this.#options.onJob(delivery.job, paused.get(delivery.job.jobId) === true)
    }
  }
}
