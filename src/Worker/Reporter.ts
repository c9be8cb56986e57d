/**
 * Sends the reports of turns in batches. One request is in flight at a time, and the next one takes
 * what was queued meanwhile, of up to {@link maxTurnsPerBatch} turns.
 *
 * So the steps and turns of a worker that run at the same time share a request and a commit. The ops of a
 * turn keep their order: a batch holds one report of a turn, and batches are sent one after the other. When the
 * connection fails, the batch in flight is sent again until it is answered or the worker stops.
 *
 * A worker spends much of its time here. So this file uses plain arrays, and one Effect run for each batch.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import {
  type ConnectionError,
  type IronflowError,
  LeaseLostError,
  ReportError,
  RunCancelledError,
  TurnBrokenError,
  ValidationError
} from "../Errors.ts"
import { TurnLog } from "../Execution/TurnLog.ts"
import type { Logger } from "../Logger.ts"
import {
  endsTurn,
  type LogLine,
  type Outcome,
  type TurnAck,
  type TurnLogs,
  type TurnOp,
  type TurnReport,
  type WorkerSession
} from "../Protocol/Worker.ts"
import { setImmediate } from "../RealTimers.ts"

/** Called with the outcome of an op, after the engine has committed the op. */
export type OnAck = (outcome: Outcome | undefined) => void

/** Maximum number of turns in one batch. */
export const maxTurnsPerBatch = 512

/** The delays between attempts to send: 100 ms, doubling up to 5 s. */
export const resendDelays = Schedule.min([Schedule.exponential(100), Schedule.spaced(Duration.seconds(5))])

/** The delay before a batch whose sending was interrupted is sent again, in milliseconds. */
const INTERRUPTED_DELAY_MS = 100

export interface ReporterOptions {
  readonly send: WorkerSession["report"]
  /** Runs an effect in the background, with the worker's services. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  readonly logger: Logger
}

/** The ops of one turn that are queued or in flight. */
export class Outbox {
  readonly #reporter: Reporter
  readonly #onRefused: (error: Error) => void
  /** Called when an answer says that the run is to be paused. */
  readonly onPaused: () => void
  readonly jobId: string
  readonly runId: string
  ops: Array<TurnOp> = []
  acks: Array<OnAck | undefined> = []
  #log: TurnLog | undefined = undefined
  isQueued = false
  isClosed = false
  #hasTurnEnded = false
  /** Whether the op that releases or pauses the run was queued: no other op may follow. */
  #hasLastOp = false

  constructor(
    reporter: Reporter,
    jobId: string,
    runId: string,
    onRefused: (error: Error) => void,
    onPaused: () => void = () => undefined
  ) {
    this.#reporter = reporter
    this.#onRefused = onRefused
    this.onPaused = onPaused
    this.jobId = jobId
    this.runId = runId
  }

  /**
   * Queues an op. `onAck` is called after the engine has committed the op. Does nothing after {@link close},
   * {@link release} or {@link pause}.
   */
  report(op: TurnOp, onAck?: OnAck): void {
    if (this.isClosed || this.#hasLastOp) return
    if (endsTurn(op)) this.#hasTurnEnded = true
    this.ops.push(op)
    this.acks.push(onAck)
    if (!this.isQueued) this.#reporter.enqueue(this)
  }

  /** Queues a log line for the next report of the turn. If no report follows, as after a refusal, the line is lost. */
  log(line: LogLine): void {
    if (this.isClosed) return
    this.#log ??= new TurnLog()
    this.#log.add(line)
  }

  takeLogs(): TurnLogs | undefined {
    return this.#log?.take()
  }

  /** Releases the run after everything that is queued, unless the turn has ended. */
  release(): void {
    if (!this.#hasTurnEnded) this.report({ _tag: "Release" })
    this.#hasLastOp = true
  }

  /** Pauses the run after everything that is queued: a bug has ended the turn. */
  pause(error: IronflowError): void {
    if (this.isClosed || this.#hasLastOp) return
    if (!this.#hasTurnEnded) this.report({ _tag: "Pause", code: error.code, message: error.message })
    this.#hasLastOp = true
    this.#onRefused(error)
  }

  /** Drops the queued ops, and ignores answers to those in flight. */
  close(): void {
    this.isClosed = true
    this.ops = []
    this.acks = []
  }

  /**
   * Closes the outbox, since the engine has refused a report of the turn and would refuse it every time. The turn is
   * told the reason.
   */
  refuse(error: Error): void {
    if (this.isClosed) return
    this.close()
    this.#onRefused(error)
  }
}

/** A batch in flight. */
interface BatchInFlight {
  readonly outboxes: ReadonlyArray<Outbox>
  readonly acks: ReadonlyArray<ReadonlyArray<OnAck | undefined>>
  readonly reports: ReadonlyArray<TurnReport>
}

export class Reporter {
  readonly #options: ReporterOptions
  #waitingOutboxes: Array<Outbox> = []
  #isScheduled = false
  #inFlight: Fiber.Fiber<ReadonlyArray<TurnAck>, unknown> | undefined
  #isStopped = false
  /** Whether it was logged that the connection is down. An outage is logged once, and not at every attempt. */
  #isOutageLogged = false
  #whenIdle: Array<() => void> = []

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  /**
   * Opens the outbox of a turn. `onRefused` is called once, with an error of this package, if the engine refuses a
   * report. `onPaused` is called whenever an answer says that the run is to be paused, before the ops in the answered
   * report are acknowledged.
   */
  open(jobId: string, runId: string, onRefused: (error: Error) => void, onPaused?: () => void): Outbox {
    return new Outbox(this, jobId, runId, onRefused, onPaused)
  }

  enqueue(outbox: Outbox): void {
    outbox.isQueued = true
    this.#waitingOutboxes.push(outbox)
    this.#schedule()
  }

  /** Waits until nothing is queued or in flight. */
  readonly awaitIdle: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#isIdle()) return resume(Effect.void)
    this.#whenIdle.push(() => resume(Effect.void))
  })

  /** Stops sending: also a batch in flight is not sent again. */
  stop(): void {
    this.#isStopped = true
    this.#waitingOutboxes = []
    this.#inFlight?.interruptUnsafe()
    this.#inFlight = undefined
    this.#wakeIfIdle()
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isStopped || this.#inFlight !== undefined) return
    this.#isScheduled = true
    // Sends at the end of this turn of the event loop. So the last step of a handler, and the handler's end a
    // few microtasks later, share a batch.
    setImmediate(this.#flush)
  }

  readonly #flush = (): void => {
    this.#isScheduled = false
    if (this.#isStopped || this.#inFlight !== undefined) return
    const batch = this.#takeBatch()
    if (batch.reports.length === 0) return this.#wakeIfIdle()
    this.#send(
      batch,
      this.#options.send(batch.reports).pipe(
        Effect.tapError((error) => this.#warnOfOutage(error, batch.reports.length)),
        Effect.retry(resendDelays)
      )
    )
  }

  #send(batch: BatchInFlight, sending: Effect.Effect<ReadonlyArray<TurnAck>, unknown>): void {
    const fiber = this.#options.fork(sending)
    this.#inFlight = fiber
    fiber.addObserver((exit) => {
      if (this.#isStopped) return
      // the request was interrupted, but not by `stop`: the batch has no answer, so it is sent again
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) {
        return this.#send(batch, Effect.delay(sending, INTERRUPTED_DELAY_MS))
      }
      this.#inFlight = undefined
      if (Exit.isSuccess(exit)) this.#handleAnswers(batch, exit.value)
      else this.#giveUp(batch, exit.cause)
      if (this.#waitingOutboxes.length > 0) this.#schedule()
      else this.#wakeIfIdle()
    })
  }

  #takeBatch(): BatchInFlight {
    const all = this.#waitingOutboxes
    const outboxes = all.length > maxTurnsPerBatch ? all.slice(0, maxTurnsPerBatch) : all
    this.#waitingOutboxes = all.length > maxTurnsPerBatch ? all.slice(maxTurnsPerBatch) : []
    const takenOutboxes: Array<Outbox> = []
    const acks: Array<ReadonlyArray<OnAck | undefined>> = []
    const reports: Array<TurnReport> = []
    for (const outbox of outboxes) {
      outbox.isQueued = false
      if (outbox.ops.length === 0) continue
      takenOutboxes.push(outbox)
      acks.push(outbox.acks)
      const logs = outbox.takeLogs()
      reports.push(
        logs === undefined
          ? { jobId: outbox.jobId, runId: outbox.runId, ops: outbox.ops }
          : { jobId: outbox.jobId, runId: outbox.runId, ops: outbox.ops, logs }
      )
      outbox.ops = []
      outbox.acks = []
    }
    return { outboxes: takenOutboxes, acks, reports }
  }

  #handleAnswers(batch: BatchInFlight, answers: ReadonlyArray<TurnAck>): void {
    this.#isOutageLogged = false
    for (let i = 0; i < batch.outboxes.length; i++) {
      const outbox = batch.outboxes[i]!
      const answer = answers[i]
      if (outbox.isClosed) continue
      if (answer === undefined) {
        outbox.refuse(undeliveredError(outbox.runId))
        continue
      }
      if (answer._tag === "Refused") {
        outbox.refuse(refusalError(outbox.runId, answer))
        continue
      }
      this.#acknowledge(outbox, batch.acks[i]!, answer)
    }
  }

  /**
   * Acknowledges the ops of one turn. When a callback throws, only that turn ends: the other turns of the
   * batch still receive their answers.
   */
  #acknowledge(
    outbox: Outbox,
    acks: ReadonlyArray<OnAck | undefined>,
    { outcomes, paused }: Extract<TurnAck, { readonly _tag: "Accepted" }>
  ): void {
    try {
      if (paused === true) outbox.onPaused()
      for (let i = 0; i < acks.length && !outbox.isClosed; i++) acks[i]?.(outcomes[i])
    } catch (cause) {
      const message =
        `Run ${outbox.runId} is paused: a bug in this package broke its turn when its report was acknowledged ` +
        `(${String(cause)}). Please report this, then resume the run`
      this.#options.logger.error(message)
      outbox.pause(new TurnBrokenError(message, { cause }))
    }
  }

  /**
   * Ends the turns of a batch whose sending has failed with a defect. A refusal of the whole batch is a defect too. A
   * failed connection is not one: the batch is sent again.
   */
  #giveUp(batch: BatchInFlight, cause: Cause.Cause<unknown>): void {
    const error = Cause.squash(cause)
    this.#options.logger.error(
      "Reports could not be delivered because of a bug in this package: please report this. The turns that they are about end here; the runs continue in other turns once the leases have lapsed",
      { runIds: batch.outboxes.map((outbox) => outbox.runId), error: String(error) }
    )
    for (const outbox of batch.outboxes) {
      outbox.refuse(
        new ReportError(
          `The report about run ${outbox.runId} could not be delivered because of a bug in this package (${String(error)}). ` +
            "Please report this. The run continues in another turn once its lease has lapsed",
          { code: "REPORT_FAILED", cause: error }
        )
      )
    }
  }

  #warnOfOutage(error: ConnectionError, turns: number): Effect.Effect<void> {
    return Effect.sync(() => {
      if (this.#isOutageLogged) return
      this.#isOutageLogged = true
      this.#options.logger.warn(
        `Reports cannot be delivered: ${error.message}. They are kept, and sent again until the engine accepts them`,
        { turns }
      )
    })
  }

  #isIdle(): boolean {
    return this.#inFlight === undefined && this.#waitingOutboxes.length === 0
  }

  #wakeIfIdle(): void {
    if (!this.#isIdle()) return
    const callbacks = this.#whenIdle
    this.#whenIdle = []
    for (const wake of callbacks) wake()
  }
}

const undeliveredError = (runId: string): IronflowError =>
  new ReportError(
    `The engine's answer says nothing about the report of run ${runId}, which is a bug of the engine: please report it. ` +
      "The run continues in another turn once its lease has lapsed",
    { code: "REPORT_FAILED" }
  )

const refusalError = (runId: string, refused: Extract<TurnAck, { readonly _tag: "Refused" }>): Error => {
  switch (refused.reason) {
    case "CANCELLED":
      return new RunCancelledError(runId)
    case "LEASE_LOST":
      return leaseLostError(runId, refused.message)
    case "LIMIT":
      // Only the engine's message says what is too large and by how much. `LimitExceededError` needs these as
      // numbers, so it cannot be used.
      return new ValidationError(refused.message, { code: "LIMIT_EXCEEDED", details: { runId } })
  }
}

/** The error for a run that belongs to another worker now, or has ended. */
export const leaseLostError = (runId: string, reason: string): IronflowError =>
  new LeaseLostError(`The lease on run ${runId} is lost: ${reason}`, {
    details: { runId }
  })
