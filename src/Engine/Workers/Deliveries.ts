/**
 * What a session has to deliver to its worker: numbered, encoded once in the way of the port that it goes out by, kept until the
 * worker says that it has it.
 */
import type { Delivery } from "../../Protocol/Http/Turns.ts"
import { endsLease, type Job, type Notice, type WorkerHandlers } from "../../Protocol/Worker.ts"
import type { RunningTurn } from "../../Protocol/RunningSteps.ts"

/** The most that one answer delivers; what is left is in the next one. */
const MAX_DELIVERIES = 512
const MAX_CHARACTERS = 8 * 1024 * 1024

interface Waiting {
  readonly seq: number
  readonly text: string
  /** Absent for a notice. */
  readonly job: Pick<Job, "jobId" | "runId"> | undefined
  /** When its worker was last known to hold the job, by {@link Deliveries.now}. */
  since: number
  sent: boolean
}

export class Deliveries {
  readonly #encode: (delivery: Delivery) => string
  #waiting: Array<Waiting> = []
  #seq = 0
  #onMore: () => void = () => undefined
  /** Jobs that the worker is told to drop, by the numbers of the notices, until it is known to have done so. */
  readonly dropping = new Map<string, number>()

  /** A clock that only goes on, milliseconds. */
  now: () => number = () => 0
  /** What the worker has said of the steps that run. */
  running: () => ReadonlyArray<RunningTurn> = () => []

  /** For the engine: what it hands out waits here. */
  readonly handlers: WorkerHandlers = {
    onJob: (job) => this.#add({ seq: ++this.#seq, job }, { jobId: job.jobId, runId: job.runId }),
    onNotice: (notice) => this.#tell(notice),
    running: () => this.running()
  }

  constructor(encode: (delivery: Delivery) => string) {
    this.#encode = encode
  }

  /** Calls `listener` whenever something has been added. */
  onMore(listener: () => void): void {
    this.#onMore = listener
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  /** Jobs that wait for longer than that, milliseconds: whether the worker has them still is not sure. */
  late(ms: number): ReadonlyArray<string> {
    if (this.#waiting.length === 0) return []
    const before = this.now() - ms
    return this.#waiting.flatMap(({ job, since }) =>
      job === undefined || since >= before ? [] : [job.jobId]
    )
  }

  /** The worker had these jobs at a time. */
  held(jobIds: ReadonlyArray<string>, at: number): void {
    for (const one of this.#waiting) {
      if (one.job !== undefined && jobIds.includes(one.job.jobId)) one.since = at
    }
  }

  /** The worker has everything up to this number. */
  received(seen: number): void {
    const next = this.#waiting.findIndex(({ seq }) => seq > seen)
    if (next !== 0) this.#waiting = next === -1 ? [] : this.#waiting.slice(next)
  }

  /** What comes next, encoded; it stays until it is received. */
  take(): ReadonlyArray<string> {
    const texts: Array<string> = []
    let characters = 0
    for (const delivery of this.#waiting) {
      characters += delivery.text.length
      if (texts.length === MAX_DELIVERIES || (texts.length > 0 && characters > MAX_CHARACTERS)) break
      delivery.sent = true
      texts.push(delivery.text)
    }
    return texts
  }

  /** {@link take} for a stream, which loses nothing as long as it lasts: what was taken is not kept. */
  takeForGood(): ReadonlyArray<string> {
    const texts = this.take()
    this.#waiting = texts.length === this.#waiting.length ? [] : this.#waiting.slice(texts.length)
    return texts
  }

  /** Jobs that were never part of an answer. */
  unsent(): ReadonlyArray<Pick<Job, "jobId" | "runId">> {
    return this.#waiting.flatMap(({ job, sent }) => (job === undefined || sent ? [] : [job]))
  }

  #tell(notice: Notice): void {
    const seq = ++this.#seq
    this.#add({ seq, notice }, undefined)
    if (endsLease(notice)) this.dropping.set(notice.jobId, seq)
  }

  #add(delivery: Delivery, job: Waiting["job"]): void {
    this.#waiting.push({
      seq: delivery.seq,
      text: this.#encode(delivery),
      job,
      since: this.now(),
      sent: false
    })
    this.#onMore()
  }
}
