/** The engine's end of a worker's connection, played by a test: it delivers jobs, and answers reports as configured. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ConnectionError, ValidationError } from "../../src/Errors.ts"
import {
  type Job,
  type Notice,
  type TurnAck,
  type TurnOp,
  type TurnReport,
  type WorkerHandlers,
  type WorkerRegistration,
  WorkerTransport
} from "../../src/Protocol/Worker.ts"

export class ScriptedTransport {
  registration: WorkerRegistration | undefined
  #handlers: WorkerHandlers | undefined
  /** The error with which `open` fails. */
  refusal: ConnectionError | ValidationError | undefined
  closed = false
  /** The number of jobs that the worker has asked for and has not received. */
  room = 0
  /** The batches as they arrived. */
  readonly batches: Array<ReadonlyArray<TurnReport>> = []
  readonly lateCalls: Array<{
    readonly runId: string
    readonly stepName: string
    readonly lingerMs: number
  }> = []
  /** The answer to a report. By default it is accepted at once. */
  answer: (report: TurnReport) => TurnAck = accept
  /** While set, batches are answered only after it. */
  #held: Deferred.Deferred<void> | undefined
  #watchers: Array<() => void> = []

  readonly layer: Layer.Layer<WorkerTransport> = Layer.succeed(WorkerTransport, {
    open: (registration, handlers) =>
      Effect.suspend(() => {
        if (this.refusal !== undefined) return Effect.fail(this.refusal)
        this.registration = registration
        this.#handlers = handlers
        return Effect.as(
          Effect.addFinalizer(() =>
            Effect.sync(() => {
              this.closed = true
              this.#changed()
            })
          ),
          {
            makeRoom: (n: number) => {
              this.room += n
              this.#changed()
            },
            report: (reports: ReadonlyArray<TurnReport>) =>
              Effect.suspend(() => {
                this.batches.push(reports)
                this.#changed()
                const held = this.#held === undefined ? Effect.void : Deferred.await(this.#held)
                return Effect.map(held, () => reports.map((report) => this.answer(report)))
              }),
            late: (late) =>
              Effect.sync(() => {
                this.lateCalls.push(late)
                this.#changed()
              })
          }
        )
      })
  })

  /** Hands out a job for a run of a function. `isPaused`: the run is already to be paused. */
  dispatch(runId: string, functionId: string, more: Partial<Job> = {}, isPaused = false): void {
    this.room--
    const job: Job = {
      jobId: `job-of-${runId}`,
      runId,
      functionId,
      environment: "default",
      attempt: 1,
      generation: 0,
      event: { id: "evt-1", name: "order.placed", version: 1, data: '{"orderId":"o-1"}', timestamp: 0 },
      journal: [],
      open: [],
      lingerMs: 0,
      createdAt: 0,
      ...more
    }
    this.#handlers!.onJob(job, isPaused)
  }

  tell(notice: Notice): void {
    this.#handlers!.onNotice(notice)
  }

  /** From now on, answers wait for {@link letGo}. */
  hold(): void {
    this.#held = Deferred.makeUnsafe()
  }

  letGo(): void {
    const held = this.#held
    this.#held = undefined
    if (held !== undefined) Deferred.doneUnsafe(held, Effect.void)
  }

  /** All reported ops of a run as words: the tag, and for a finished step its name. */
  reported(runId: string): Array<string> {
    return this.batches
      .flat()
      .filter((report) => report.runId === runId)
      .flatMap((report) => report.ops.map(word))
  }

  /** Waits until a condition is met. It is checked after everything that arrives here. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!holds()) return
        this.#watchers = this.#watchers.filter((watcher) => watcher !== look)
        resolve()
      }
      this.#watchers.push(look)
      look()
    })
  }

  #changed(): void {
    // a watcher that is done removes itself, which makes a new list
    for (const watcher of this.#watchers) watcher()
  }
}

const accept = (report: TurnReport): TurnAck => ({
  _tag: "Accepted",
  outcomes: report.ops.map(() => undefined)
})

const word = (op: TurnOp): string => (op._tag === "StepDone" ? `${op._tag} ${op.name}` : op._tag)
