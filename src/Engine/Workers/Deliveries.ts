/**
 * What a session has to deliver to its worker. Deliveries are numbered, encoded once in the format of the worker's connection, and
 * kept until the worker confirms them, or until they are sent on a stream.
 */
import type { Delivery } from "../../Protocol/Http/Turns.ts"
import { endsLease, type Job, type Notice, type WorkerHandlers } from "../../Protocol/Worker.ts"
import type { RunningTurn } from "../../Protocol/RunningSteps.ts"

/** Maximum number of deliveries in one answer. The rest comes in the next one. */
const MAX_DELIVERIES = 512
/** Maximum number of characters in one answer, unless a single delivery has more. */
const MAX_CHARACTERS = 8 * 1024 * 1024

interface QueuedDelivery {
  readonly seq: number
  readonly text: string
  /** The job of the delivery; absent for a notice. */
  readonly job: Pick<Job, "jobId" | "runId"> | undefined
  /** When the worker was last known to have the lease of the job, by {@link Deliveries.now}. */
  leasedAt: number
  sent: boolean
}

export class Deliveries {
  readonly #encode: (delivery: Delivery) => string
  #unconfirmed: Array<QueuedDelivery> = []
  #seq = 0
  #onMore: () => void = () => undefined
  /**
   * Jobs that the worker was told to drop, with the numbers of the notices. They stay here until the worker is known to have
   * dropped them.
   */
  readonly droppingJobs = new Map<string, number>()

  /** A monotonic clock, in milliseconds. */
  now: () => number = () => 0
  /** Returns what the worker reports about running steps. */
  running: () => ReadonlyArray<RunningTurn> = () => []

  /** The handlers that the engine calls. They add what the engine dispatches to the unconfirmed deliveries. */
  readonly handlers: WorkerHandlers = {
    onJob: (job) => this.#add({ seq: ++this.#seq, job }, { jobId: job.jobId, runId: job.runId }),
    onNotice: (notice) => this.#addNotice(notice),
    running: () => this.running()
  }

  constructor(encode: (delivery: Delivery) => string) {
    this.#encode = encode
  }

  /** Sets the listener, which is called whenever a delivery was added. */
  onMore(listener: () => void): void {
    this.#onMore = listener
  }

  get isEmpty(): boolean {
    return this.#unconfirmed.length === 0
  }

  /**
   * The unconfirmed jobs for which more than `ms` milliseconds have passed since the worker was last known to have the lease. The
   * worker may have lost these leases by now.
   */
  lateJobs(ms: number): ReadonlyArray<string> {
    if (this.#unconfirmed.length === 0) return []
    const leasedBefore = this.now() - ms
    return this.#unconfirmed.flatMap(({ job, leasedAt }) =>
      job === undefined || leasedAt >= leasedBefore ? [] : [job.jobId]
    )
  }

  /** Notes that the worker had the leases of these jobs at the time `at`. */
  noteLeased(jobIds: ReadonlyArray<string>, at: number): void {
    for (const delivery of this.#unconfirmed) {
      if (delivery.job !== undefined && jobIds.includes(delivery.job.jobId)) delivery.leasedAt = at
    }
  }

  /** Removes the deliveries up to the number `upTo`, which the worker has confirmed. */
  confirm(upTo: number): void {
    const next = this.#unconfirmed.findIndex(({ seq }) => seq > upTo)
    if (next !== 0) this.#unconfirmed = next === -1 ? [] : this.#unconfirmed.slice(next)
  }

  /** The next deliveries, encoded. They are kept until the worker confirms them. */
  take(): ReadonlyArray<string> {
    const texts: Array<string> = []
    let characters = 0
    for (const delivery of this.#unconfirmed) {
      characters += delivery.text.length
      if (texts.length === MAX_DELIVERIES || (texts.length > 0 && characters > MAX_CHARACTERS)) break
      delivery.sent = true
      texts.push(delivery.text)
    }
    return texts
  }

  /** {@link take} for a stream. A stream loses nothing while it lasts, so the deliveries are not kept. */
  takeWithoutKeeping(): ReadonlyArray<string> {
    const texts = this.take()
    this.#unconfirmed = texts.length === this.#unconfirmed.length ? [] : this.#unconfirmed.slice(texts.length)
    return texts
  }

  /** The jobs that {@link take} has not returned yet. */
  unsent(): ReadonlyArray<Pick<Job, "jobId" | "runId">> {
    return this.#unconfirmed.flatMap(({ job, sent }) => (job === undefined || sent ? [] : [job]))
  }

  #addNotice(notice: Notice): void {
    const seq = ++this.#seq
    this.#add({ seq, notice }, undefined)
    if (endsLease(notice)) this.droppingJobs.set(notice.jobId, seq)
  }

  #add(delivery: Delivery, job: QueuedDelivery["job"]): void {
    this.#unconfirmed.push({
      seq: delivery.seq,
      text: this.#encode(delivery),
      job,
      leasedAt: this.now(),
      sent: false
    })
    this.#onMore()
  }
}
