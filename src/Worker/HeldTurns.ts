/**
 * The turns that a worker has in flight. A turn executes the code of one run up to its next wait or its end. This class
 * starts a turn for each job, passes notices on to the turns, and asks for more jobs when turns end.
 */
import * as Effect from "effect/Effect"
import { FunctionNotFoundError, RunCancelledError, serializeError, WorkerStoppedError } from "../Errors.ts"
import { startTurn } from "../Execution/Turn.ts"
import type { TurnHandle, TurnHost } from "../Execution/TurnHost.ts"
import type { AnyFunction } from "../Function.ts"
import { ShortLivedMap } from "../ShortLivedMap.ts"
import type { Job, Notice } from "../Protocol/Worker.ts"
import { limitSteps, type RunningTurn } from "../Protocol/RunningSteps.ts"
import { leaseLostError, type Outbox, type Reporter } from "./Reporter.ts"

export interface HeldTurnsOptions {
  readonly functions: ReadonlyMap<string, AnyFunction>
  readonly reporter: Reporter
  /** The part of `TurnHost` that is the same for all turns of the worker. */
  readonly host: Omit<TurnHost, "report" | "noteHandlerWentOn" | "keepLine">
  /** Called when a handler has gone on after its turn was suspended; see `TurnHost.noteHandlerWentOn`. */
  readonly onLateStep: (runId: string, stepName: string, lingerMs: number) => void
  /** Asks the engine for `n` more jobs; a negative `n` withdraws the request for `-n` jobs. */
  readonly makeRoom: (n: number) => void
}

interface TurnInFlight {
  readonly runId: string
  readonly outbox: Outbox
  handle: TurnHandle | undefined
}

export class HeldTurns {
  readonly #options: HeldTurnsOptions
  readonly #turns = new ShortLivedMap<string, TurnInFlight>()
  #acceptsJobs = true
  /** How many jobs were requested and have not arrived. */
  #awaitedJobs = 0
  #whenEmpty: Array<() => void> = []

  constructor(options: HeldTurnsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#turns.size
  }

  /** Whether the turn of this job is in flight. */
  has(jobId: string): boolean {
    return this.#turns.has(jobId)
  }

  /**
   * Starts the turn of a job. If the job arrives after {@link refuseNewJobs}, or its run is to be paused, the run is
   * released unchanged.
   */
  readonly start = (job: Job, isPaused = false): void => {
    const { functions, host, onLateStep, reporter } = this.#options
    this.#awaitedJobs--
    const turn: TurnInFlight = {
      runId: job.runId,
      outbox: reporter.open(
        job.jobId,
        job.runId,
        (error) => this.#abort(job.jobId, error),
        () => turn.handle?.notice({ _tag: "Paused", jobId: job.jobId })
      ),
      handle: undefined
    }
    if (!this.#acceptsJobs) return turn.outbox.release()
    if (isPaused) {
      turn.outbox.release()
      return this.requestJobs(1)
    }

    this.#turns.set(job.jobId, turn)
    const fn = functions.get(job.functionId)
    if (fn === undefined) {
      const error = serializeError(new FunctionNotFoundError(job.functionId))
      return turn.outbox.report({ _tag: "Fail", error }, () => this.#end(job.jobId))
    }
    const { lingerMs, runId } = job
    turn.handle = startTurn(
      fn,
      job,
      {
        ...host,
        report: (op, onAck) => turn.outbox.report(op, onAck),
        keepLine: (line) => turn.outbox.log(line),
        noteHandlerWentOn: (stepName) => onLateStep(runId, stepName, lingerMs)
      },
      () => this.#end(job.jobId)
    )
  }

  /** Passes a notice on to the turn that it is about. A notice about a turn that has ended is dropped. */
  readonly onNotice = (notice: Notice): void => {
    const turn = this.#turns.get(notice.jobId)
    if (turn === undefined) return
    switch (notice._tag) {
      case "Fired":
      case "Paused":
      case "Resumed":
        return turn.handle?.notice(notice)
      case "Cancelled":
        return turn.outbox.refuse(new RunCancelledError(turn.runId))
      case "LeaseLost":
        return turn.outbox.refuse(leaseLostError(turn.runId, notice.reason))
    }
  }

  /** The turns with the steps whose code has run for at least this many milliseconds. */
  readonly runningTurns = (atLeastMs: number): ReadonlyArray<RunningTurn> => {
    const runningTurns: Array<RunningTurn> = []
    for (const [jobId, { handle, runId }] of this.#turns) {
      const steps = handle?.running(atLeastMs) ?? []
      if (steps.length > 0) runningTurns.push({ jobId, runId, steps })
    }
    return limitSteps(runningTurns)
  }

  /** Asks for `n` more jobs. */
  requestJobs(n: number): void {
    this.#awaitedJobs += n
    this.#options.makeRoom(n)
  }

  /** Withdraws the request for jobs. The runs of jobs that are already in transit are released when the jobs arrive. */
  refuseNewJobs(): void {
    if (!this.#acceptsJobs) return
    this.#acceptsJobs = false
    this.#options.makeRoom(-this.#awaitedJobs)
  }

  /** Aborts every turn. The reports that are queued are still sent; then the runs are released. */
  abortAll(workerId: string): void {
    for (const [jobId, turn] of this.#turns) {
      turn.outbox.release()
      this.#abort(
        jobId,
        new WorkerStoppedError(
          `Worker ${workerId} was stopped during a turn of run ${turn.runId}: ` +
            "the run continues from its last finished step as soon as a worker has room for it",
          { retryable: true, details: { workerId, runId: turn.runId } }
        )
      )
    }
  }

  /** Waits until no turn is in flight. */
  readonly awaitEmpty: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#turns.size === 0) return resume(Effect.void)
    this.#whenEmpty.push(() => resume(Effect.void))
  })

  #abort(jobId: string, reason: Error): void {
    const turn = this.#turns.get(jobId)
    if (turn === undefined) return
    // the handler of a turn without a handle has not started, so only this call ends the turn
    if (turn.handle === undefined) return this.#end(jobId)
    turn.handle.abort(reason)
  }

  #end(jobId: string): void {
    if (!this.#turns.delete(jobId)) return
    if (this.#acceptsJobs) this.requestJobs(1)
    if (this.#turns.size > 0) return
    const callbacks = this.#whenEmpty
    this.#whenEmpty = []
    for (const wake of callbacks) wake()
  }
}
