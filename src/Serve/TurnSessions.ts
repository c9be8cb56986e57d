/**
 * The three ways in which a turn of a push handler sends its reports.
 *
 * - {@link BufferedTurn}: to an engine of this package, all reports with the response. A step that only the engine
 *   can answer ends the turn, and a later turn continues the run.
 * - {@link ReportedTurn}: to an engine of this package, each report at once, in its own request. When a request
 *   fails, or the server is not the engine that sent the turn, this and all later reports are sent with the response.
 * - {@link LegacyPushTurn}: to a legacy server, as the single response that it understands.
 */
import * as Effect from "effect/Effect"
import type * as Clock from "effect/Clock"
import type { Connection } from "../Client/HttpConnection.ts"
import { failureOf } from "../Client/HttpFailures.ts"
import { ConnectionError, NotConfiguredError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import { pushTurn } from "../Protocol/Push.ts"
import { readAck } from "../Protocol/Http/Turns.ts"
import type { PushResponse, TurnResponse, TurnUpdate, TurnUpdated, YieldInfo } from "../Protocol/Push.ts"
import type { TurnHandle } from "../Execution/TurnHost.ts"
import type { Job, Notice, Outcome, TurnAck, TurnOp, TurnReport, WorkerSession } from "../Protocol/Worker.ts"
import type { LegacyJob } from "../Worker/LegacyJob.ts"
import { applyOps, continuation, type LegacyEnd, type LegacySink, beginReport } from "../Worker/LegacyOps.ts"
import { failPublish, publishMessage } from "../Worker/LegacyPublish.ts"
import { LegacyTurn } from "../Worker/LegacyTurn.ts"
import { TurnLog } from "../Execution/TurnLog.ts"
import { toConnectionError, isSuccess } from "../Worker/ServerLink.ts"
import { responseOf } from "./LegacyPushRequests.ts"

export interface PushedTurn {
  readonly report: WorkerSession["report"]
  /** Whether only a later turn will know the outcome of the op, as `TurnHost.defers` says. */
  readonly defers: (op: TurnOp) => boolean
  /** The response of the turn when it has ended; `undefined` when it ended without a response. */
  readonly response: () => TurnResponse | PushResponse | undefined
  /** Passes the notices for the turn to `notice`, until the Effect is interrupted. */
  readonly watch?: (
    turn: Pick<TurnHandle, "running">,
    notice: (notice: Notice) => void
  ) => Effect.Effect<void>
  /** Reports that the handler has gone on after its turn was suspended, as `TurnHost.noteHandlerWentOn` says. */
  readonly reportLateStep: (stepName: string) => Effect.Effect<void, ConnectionError>
}

/** Whether the engine's answer to the op has the outcome of the op. */
const hasAnswer = ({ _tag }: TurnOp): boolean =>
  _tag === "Publish" || _tag === "InvokeAsync" || _tag === "Transact"

const acceptedAck = (ops: number): TurnAck => ({
  _tag: "Accepted",
  outcomes: Array.from<undefined>({ length: ops })
})

export class BufferedTurn implements PushedTurn {
  readonly #ops: Array<TurnOp> = []
  readonly #log = new TurnLog()

  readonly report = (reports: ReadonlyArray<TurnReport>): Effect.Effect<ReadonlyArray<TurnAck>> =>
    Effect.sync(() =>
      reports.map(({ logs, ops }) => {
        this.#ops.push(...ops)
        if (logs !== undefined) this.#log.addAll(logs)
        return acceptedAck(ops.length)
      })
    )

  /** Releases the run after the ops that were reported so far. */
  release({ jobId, runId }: Job): Effect.Effect<unknown> {
    return this.report([{ jobId, runId, ops: [{ _tag: "Release" }] }])
  }

  readonly defers = hasAnswer
  readonly response = (): TurnResponse => {
    const logs = this.#log.take()
    return { type: "turn", ops: this.#ops, ...(logs === undefined ? {} : { logs }) }
  }
  readonly reportLateStep = (): Effect.Effect<void> => Effect.void
}

const unansweredAck = ({ message }: ConnectionError): TurnAck => ({
  _tag: "Refused",
  reason: "LEASE_LOST",
  message: `the engine of the run did not answer the report of a step; the run continues in another turn (${message})`
})

/**
 * The delays between attempts to send a report, in milliseconds. After the last attempt the server counts as
 * unreachable.
 */
const reportDelaysMs = [100, 400]
/** How long a turn must run before it asks for notices, in milliseconds. */
const WATCH_AFTER_MS = 250
/** How long the engine may wait for a notice before it answers the first request for notices, in milliseconds. */
const FIRST_WATCH_MS = 2000
/** How long the engine may wait for a notice before it answers any request for notices, in milliseconds. */
const LONGEST_WATCH_MS = 20_000

export class ReportedTurn implements PushedTurn {
  readonly #connection: Connection
  readonly #job: Job
  readonly #buffer = new BufferedTurn()
  readonly #onUnreachable: (error: ConnectionError) => void
  #isBuffering = false
  /** Whether the server has no run of this id, so that it has no notices for the turn either. */
  #isWrongServer = false

  /** `onUnreachable` is called when a report has failed, or the server is not the engine that sent the turn. */
  constructor(connection: Connection, job: Job, onUnreachable: (error: ConnectionError) => void) {
    this.#connection = connection
    this.#job = job
    this.#onUnreachable = onUnreachable
  }

  readonly report = (
    reports: ReadonlyArray<TurnReport>
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> =>
    Effect.suspend(() => {
      if (this.#isBuffering) return this.#buffer.report(reports)
      // there is one turn, and so at most one report
      const ops = reports.flatMap((report) => report.ops)
      const logs = reports[0]?.logs
      const update = { runId: this.#job.runId, ops, ...(logs === undefined ? {} : { logs }) }
      return Effect.matchEffect(this.#send(update, reportDelaysMs), {
        onSuccess: ({ ack, unknownRun }) =>
          unknownRun === true
            ? this.#reportLater(reports, this.#leaveWrongServer())
            : Effect.succeed([readAck(ack)]),
        onFailure: (error) => {
          this.#isBuffering = true
          this.#onUnreachable(error)
          return this.#reportLater(reports, error)
        }
      })
    })

  /** Keeps for the response what could not be reported, because of `error`. */
  #reportLater(
    reports: ReadonlyArray<TurnReport>,
    error: ConnectionError
  ): Effect.Effect<ReadonlyArray<TurnAck>> {
    const buffered = this.#buffer.report(reports)
    // only the engine could answer these steps: this turn ends here, and the run continues in another turn
    return reports.some(({ ops }) => ops.some(hasAnswer))
      ? Effect.andThen(buffered, Effect.as(this.#buffer.release(this.#job), [unansweredAck(error)]))
      : buffered
  }

  /** Notes that the server is not the engine that sent the turn. */
  #leaveWrongServer(): ConnectionError {
    const error = new ConnectionError(
      `The engine at ${this.#connection.server.url} does not know run ${this.#job.runId}, so it is not the engine that calls this handler: ` +
        "set `serverUrl` of serve() (or IRONFLOW_URL, or IRONFLOW_SERVER_URL) to the engine that calls it, and `apiKey`, if there is one, to a key of the run's environment"
    )
    this.#isWrongServer = true
    this.#isBuffering = true
    this.#onUnreachable(error)
    return error
  }

  readonly defers = (op: TurnOp): boolean => this.#isBuffering && hasAnswer(op)
  readonly response = (): TurnResponse => this.#buffer.response()

  /**
   * Asks for notices after 250 ms, and then again after each answer. The engine answers when it has a notice, or
   * else after 2, 4, 8, 16 and then 20 s. Each request names the running steps. Ends when the server is not the engine
   * that sent the turn.
   */
  readonly watch = (
    turn: Pick<TurnHandle, "running">,
    notice: (notice: Notice) => void
  ): Effect.Effect<void> => {
    const { runId } = this.#job
    let waitMs = FIRST_WATCH_MS
    const once = Effect.suspend(() => {
      const running = turn.running(0)
      const update = { runId, ops: [], waitMs, ...(running.length === 0 ? {} : { running }) }
      waitMs = Math.min(2 * waitMs, LONGEST_WATCH_MS)
      return Effect.flatMap(this.#send(update, []), ({ notices, unknownRun }) =>
        Effect.sync(() => {
          if (unknownRun === true) this.#leaveWrongServer()
          else notices.forEach(notice)
        })
      )
    })
    const askAgain: Effect.Effect<void> = Effect.suspend(() =>
      this.#isWrongServer
        ? Effect.void
        : Effect.andThen(
            // after a failed request the turn asks again a second later
            Effect.catch(once, () => Effect.sleep(1000)),
            askAgain
          )
    )
    return Effect.andThen(Effect.sleep(WATCH_AFTER_MS), askAgain)
  }

  readonly reportLateStep = (stepName: string): Effect.Effect<void, ConnectionError> =>
    Effect.asVoid(
      this.#send(
        { runId: this.#job.runId, ops: [], late: { stepName, lingerMs: this.#job.lingerMs } },
        reportDelaysMs
      )
    )

  #send(update: TurnUpdate, delaysMs: ReadonlyArray<number>): Effect.Effect<TurnUpdated, ConnectionError> {
    const { jobId, runId } = this.#job
    const what = `The report about run ${runId}`
    const [delayMs, ...rest] = delaysMs
    const once = this.#connection
      .send({
        method: "POST",
        path: pathOf(pushTurn, { jobId }),
        body: JSON.stringify({ ...update, pauses: true }),
        what,
        timeoutMs: (update.waitMs ?? 0) + this.#connection.server.timeoutMs
      })
      .pipe(
        Effect.mapError(toConnectionError),
        Effect.flatMap((answer) => {
          if (!isSuccess(answer)) return Effect.fail(toConnectionError(failureOf(answer, what)))
          const body = safeJsonParse(answer.text)
          return isObject(body) && isObject(body.ack) && Array.isArray(body.notices)
            ? // the engine answers as `Protocol/Push.ts` says, so an answer of this shape is a `TurnUpdated`
              Effect.succeed(body as unknown as TurnUpdated)
            : Effect.fail(
                new ConnectionError(
                  `${what}: the server at ${this.#connection.server.url} is not an engine of this package`
                )
              )
        })
      )
    return delayMs === undefined
      ? once
      : Effect.catch(once, () => Effect.andThen(Effect.sleep(delayMs), this.#send(update, rest)))
  }
}

export class LegacyPushTurn implements PushedTurn {
  readonly #turn: LegacyTurn
  readonly #sink: LegacySink
  readonly #clock: Clock.Clock
  #response: PushResponse | undefined
  #invocation: YieldInfo | undefined

  constructor(job: LegacyJob, clock: Clock.Clock, connection: Connection | undefined) {
    this.#clock = clock
    this.#turn = new LegacyTurn(job, clock.currentTimeMillisUnsafe(), 0)
    const end = (turn: LegacyTurn, end: LegacyEnd, outcomes: ReadonlyArray<Outcome | undefined>) =>
      Effect.sync((): TurnAck => {
        this.#response = responseOf(
          turn,
          // The handler has invoked a function without awaiting its result. The server must start the invoked run
          // before this run completes.
          this.#invocation !== undefined && end.status === "completed"
            ? { status: "yielded", yield: this.#invocation }
            : end
        )
        return { _tag: "Accepted", outcomes: [...outcomes, undefined] }
      })
    this.#sink = {
      end,
      publish: (turn, op, nowMs) =>
        connection === undefined
          ? Effect.succeed(
              failPublish(
                turn,
                op,
                nowMs,
                new NotConfiguredError(
                  `step.publish("${op.topic}") needs the Ironflow server: set \`serverUrl\` of serve(), or IRONFLOW_SERVER_URL`
                )
              )
            )
          : publishMessage(turn, op, nowMs, connection, (answer, what) =>
              answer.status >= 500 || answer.status === 429
                ? Effect.fail(toConnectionError(failureOf(answer, what)))
                : Effect.succeed(answer)
            ),
      invokeAsync: (turn, op) =>
        Effect.sync(() => {
          this.#invocation ??= turn.asyncInvokeOf(op)
          return undefined
        }),
      release: (turn, outcomes) =>
        end(
          turn,
          {
            status: "yielded",
            yield: this.#invocation ?? continuation(turn, clock.currentTimeMillisUnsafe())
          },
          outcomes
        )
    }
  }

  readonly report = (
    reports: ReadonlyArray<TurnReport>
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
    // made once, even if the effect runs several times: a report that is sent again continues where it was
    const pendingReports = reports.map(beginReport)
    return Effect.forEach(pendingReports, (pending) =>
      Effect.map(
        applyOps(this.#sink, this.#turn, pending, this.#clock),
        (end): TurnAck => end ?? { _tag: "Accepted", outcomes: pending.outcomes }
      )
    )
  }

  readonly defers = (op: TurnOp): boolean => op._tag === "InvokeAsync"
  readonly response = (): PushResponse | undefined => this.#response
  // not reported: a legacy server starts the next turn only when the wait of the run is over
  readonly reportLateStep = (): Effect.Effect<void> => Effect.void
}
