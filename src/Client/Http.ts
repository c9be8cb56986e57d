/**
 * Events, runs and functions of a server elsewhere: every method is a request over a {@link Connection}.
 *
 * A call that does no harm when it is made twice (reading, and emitting or publishing with an idempotency key) is tried up
 * to three times when the connection fails or the server says that it is busy (429, 502, 503). Others are tried again only
 * when the server surely did not receive them: there was no connection, or it said so when it stopped.
 * The engine of this package and other Ironflow servers are both understood; what only ours has fails with code
 * `UNIMPLEMENTED` on others.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  FunctionNotFoundError,
  type IronflowError,
  LimitExceededError,
  RunNotFoundError,
  StepNotFoundError,
  TimeoutError,
  ValidationError
} from "../Errors.ts"
import { checkEventVersion } from "../Event.ts"
import { byteLength, encodeJson } from "../Json.ts"
import { checkIdempotencyKey, checkName, checkRunsLimit, writeBytes } from "../Limits.ts"
import { encodeMetadata } from "../Metadata.ts"
import { type Endpoint, endpoints } from "../Protocol/Http/Endpoints.ts"
import { MAX_WAIT_MS } from "../Protocol/Http/Turns.ts"
import { isTerminal } from "../RunStatus.ts"
import type {
  AuditEvent,
  ClientApi,
  EffectKind,
  EmitOptions,
  PublishOptions,
  Run,
  RunStep,
  TopicInfo,
  WaitForRunOptions
} from "./Client.ts"
import type { Raw } from "./Named.ts"
import { makeEmitSync } from "./EmitSync.ts"
import { emitsOf, type NamedEmit } from "./Emitting.ts"
import * as Answers from "./HttpAnswers.ts"
import { type Call, checked, done, makeCalls, object, quote } from "./HttpCalls.ts"
import type { Connection } from "./HttpConnection.ts"
import { callPages } from "./HttpPages.ts"

const triggerBody = ({ data, idempotencyKey: key, metadata, name, version }: NamedEmit): string => {
  const what = `event ${quote(name)}`
  return object({
    event: JSON.stringify(name),
    data: encodeJson(data, `data of ${what}`) ?? "{}",
    ...(version === undefined ? {} : { version: String(checkEventVersion(name, version)) }),
    ...idempotencyKey(key),
    metadata: encodeMetadata(`The metadata of ${what}`, metadata ?? undefined)
  })
}

/** The methods over a connection. */
export const make = (connection: Connection): Raw<ClientApi<EffectKind>> => {
  const calls = makeCalls(connection)
  const { call, withoutEndpoint } = calls

  /** All at once, as every server answers it; where that is too much for ours, in pages. */
  const listed = <A>(it: Omit<Call<Array<A>>, "orElse" | "query">) =>
    Effect.catch(call(it), (error) =>
      error.code === "LIMIT_EXCEEDED" ? callPages(calls, it) : Effect.fail(error)
    )

  /** The answer is a run. */
  const runCall = (
    endpoint: Endpoint,
    method: string,
    runId: string,
    fields: Fields,
    more: Partial<Call<Run>>
  ) =>
    call<Run>({
      endpoint,
      body: JSON.stringify(fields),
      what: `${method}(${quote(runId)})`,
      repeatable: false,
      notFound: () => new RunNotFoundError(runId),
      read: Answers.readRun,
      ...more
    })

  const emit = (name: string, data: unknown, options: EmitOptions = {}) =>
    Effect.flatMap(
      checked(() => triggerBody({ ...options, name, data })),
      (body) =>
        call({
          endpoint: endpoints.trigger,
          body,
          what: `emit(${quote(name)})`,
          repeatable: options.idempotencyKey !== undefined,
          read: Answers.readEmitted
        })
    )

  const emitMany = (events: ReadonlyArray<NamedEmit>) =>
    Effect.flatMap(
      checked(() => {
        const bodies = events.map(triggerBody)
        const bytes = bodies.reduce((total, body) => total + byteLength(body), 0)
        if (bytes > writeBytes) throw new LimitExceededError("A batch of events", bytes, writeBytes, "bytes")
        return `{"events":[${bodies.join(",")}]}`
      }),
      (body) =>
        call({
          endpoint: endpoints.triggerBatch,
          body,
          what: "emitMany()",
          repeatable: events.every(({ idempotencyKey }) => idempotencyKey !== undefined),
          read: (answer) => {
            const results = Answers.readManyEmitted(answer)
            return results.length === events.length ? results : undefined
          }
        })
    )

  const emits = emitsOf({ emit, emitMany })

  const publish = (topic: string, data: unknown, options: PublishOptions = {}) =>
    Effect.flatMap(
      checked(() =>
        object({
          topic: JSON.stringify(topic),
          data: encodeJson(data, `message for topic ${quote(topic)}`) ?? "{}",
          ...idempotencyKey(options.idempotencyKey)
        })
      ),
      (body) =>
        call({
          endpoint: endpoints.publish,
          body,
          what: `publish(${quote(topic)})`,
          repeatable: options.idempotencyKey !== undefined,
          read: Answers.readPublished
        })
    )

  const getRun = (runId: string) =>
    runCall(endpoints.getRun, "getRun", runId, { id: runId }, { repeatable: true })

  const explain = (runId: string) =>
    withId(runId, () =>
      call({
        endpoint: endpoints.explainRun,
        variables: { id: runId },
        what: `explain(${quote(runId)})`,
        repeatable: true,
        ours: true,
        notFound: () => new RunNotFoundError(runId),
        orElse: withoutEndpoint(`explain(${quote(runId)})`, "getRun says in which status the run is"),
        read: Answers.readExplanation
      })
    )

  /** Waits for at most `waitMs`; `undefined` when the run goes on. Servers that cannot wait are asked at once. */
  const wait = (runId: string, waitMs: number) =>
    call<Ended>({
      endpoint: endpoints.waitForRun,
      variables: { id: runId },
      query: `?timeout=${Math.ceil(waitMs)}`,
      what: `waitForRun(${quote(runId)})`,
      repeatable: true,
      ours: true,
      timeoutMs: waitMs + connection.server.timeoutMs,
      notFound: () => new RunNotFoundError(runId),
      orElse: () =>
        Effect.map(getRun(runId), (run) => ({
          run: isTerminal(run.status) ? run : undefined,
          waited: false
        })),
      read: (answer) => {
        const run = answer === undefined ? undefined : Answers.readRun(answer)
        // no content says that the time is up
        return answer !== undefined && run === undefined ? undefined : { run, waited: true }
      }
    })

  const waitForRun = (
    runId: string,
    { timeout }: WaitForRunOptions = {}
  ): Effect.Effect<Run, IronflowError> =>
    withId(runId, () =>
      Effect.gen(function* () {
        if (timeout !== undefined && !(timeout >= 0 && Number.isFinite(timeout))) {
          return yield* new ValidationError(
            `The timeout of waitForRun must be a number of milliseconds, got ${timeout}`
          )
        }
        const clock = yield* Clock.Clock
        const elapsedMs = stopwatch(clock)
        for (let pauseMs = 200; ; pauseMs = Math.min(pauseMs * 1.5, 2000)) {
          const leftMs = timeout === undefined ? Number.POSITIVE_INFINITY : timeout - elapsedMs()
          const { run, waited } = yield* wait(runId, Math.max(0, Math.min(leftMs, MAX_WAIT_MS)))
          if (run !== undefined) return run
          if (timeout !== undefined && elapsedMs() >= timeout) return yield* stillRunning(runId, timeout)
          if (!waited) {
            yield* Effect.sleep(timeout === undefined ? pauseMs : Math.min(pauseMs, timeout - elapsedMs()))
          }
        }
      })
    )

  const stillRunning = (runId: string, timeout: number): Effect.Effect<never, IronflowError> =>
    Effect.flatMap(
      // why it goes on is worth a question, but not worth another error
      Effect.catch(
        Effect.map(explain(runId), ({ message }) => ` ${message}`),
        () => Effect.succeed("")
      ),
      (why) =>
        Effect.fail(
          new TimeoutError(`Run ${runId} had not ended after ${timeout} ms, and goes on.${why}`, timeout)
        )
    )

  return {
    ...emits,
    emitSync: makeEmitSync({ emit: emits.emit, waitForRun }),
    publish,
    listTopics: () =>
      callPages<TopicInfo>(calls, {
        endpoint: endpoints.listTopics,
        body: "{}",
        what: "listTopics()",
        repeatable: true,
        read: Answers.readTopics
      }),
    getTopicStats: (topic) =>
      call({
        endpoint: endpoints.getTopicStats,
        body: JSON.stringify({ topic }),
        what: `getTopicStats(${quote(topic)})`,
        repeatable: true,
        read: (answer) => Answers.readTopicStats(answer, topic)
      }),
    getRun,
    listRuns: (options = {}) =>
      Effect.flatMap(
        checked(() => ({
          functionId: options.functionId,
          status: options.status,
          limit: options.limit === undefined ? undefined : checkRunsLimit(options.limit),
          cursor: options.cursor
        })),
        (query) =>
          call({
            endpoint: endpoints.listRuns,
            body: JSON.stringify(query),
            what: "listRuns()",
            repeatable: true,
            read: Answers.readRuns
          })
      ),
    getRunSteps: (runId) => {
      const steps = {
        what: `getRunSteps(${quote(runId)})`,
        repeatable: true,
        notFound: () => new RunNotFoundError(runId),
        read: Answers.readSteps
      }
      return Effect.catchIf(
        call({
          ...steps,
          endpoint: endpoints.getRunSteps,
          body: JSON.stringify({ runId }),
          orElse: withoutEndpoint(`getRunSteps(${quote(runId)})`, "getRun says in which status the run is")
        }),
        // too much for one answer
        ({ code }) => code === "LIMIT_EXCEEDED",
        () =>
          callPages<RunStep>(calls, { ...steps, endpoint: endpoints.restRunSteps, variables: { id: runId } })
      )
    },
    getRunAudit: (runId) =>
      withId(runId, () =>
        callPages<AuditEvent>(calls, {
          endpoint: endpoints.runAudit,
          variables: { id: runId },
          what: `getRunAudit(${quote(runId)})`,
          repeatable: true,
          ours: true,
          notFound: () => new RunNotFoundError(runId),
          orElse: withoutEndpoint(`getRunAudit(${quote(runId)})`, "getRunSteps says what the steps were"),
          read: Answers.readAudit
        })
      ),
    explain,
    waitForRun,
    cancelRun: (runId, reason = "") =>
      runCall(endpoints.cancelRun, "cancelRun", runId, { id: runId, reason }, {}),
    retryRun: (runId, fromStep) =>
      withStep(runId, fromStep, () =>
        runCall(
          endpoints.retryRun,
          "retryRun",
          runId,
          { id: runId, ...(fromStep === undefined ? {} : { fromStep }) },
          {
            orElse: withoutEndpoint(
              `retryRun(${quote(runId)})`,
              "Use resumeRun, which retries failed runs too"
            )
          }
        )
      ),
    resumeRun: (runId, fromStep) =>
      withStep(runId, fromStep, () =>
        runCall(
          endpoints.restResumeRun,
          "resumeRun",
          runId,
          { run_id: runId, from_step: fromStep ?? "" },
          { saysText: true }
        )
      ),
    pauseRun: (runId, reason = "") =>
      Effect.flatMap(
        call<{ readonly run: Run | undefined }>({
          endpoint: endpoints.pauseRun,
          body: JSON.stringify({ run_id: runId, reason }),
          what: `pauseRun(${quote(runId)})`,
          repeatable: false,
          notFound: () => new RunNotFoundError(runId),
          orElse: withoutEndpoint(`pauseRun(${quote(runId)})`, "cancelRun ends the run for good"),
          read: (answer) => ({ run: Answers.readPaused(answer) })
        }),
        // other servers answer with the word alone
        ({ run }) => (run === undefined ? getRun(runId) : Effect.succeed(run))
      ),
    patchStep: (stepId, output, reason = "") =>
      Effect.flatMap(
        checked(() =>
          object({
            step_id: JSON.stringify(stepId),
            output: encodeJson(output, `output for step ${quote(stepId)}`) ?? "null",
            reason: JSON.stringify(reason)
          })
        ),
        (body) =>
          Effect.asVoid(
            call({
              endpoint: endpoints.restPatchStep,
              body,
              what: `patchStep(${quote(stepId)})`,
              repeatable: false,
              saysText: true,
              notFound: () => new RunNotFoundError(String(stepId).split(":")[0] ?? ""),
              read: () => done
            })
          )
      ),
    listFunctions: () =>
      listed({
        endpoint: endpoints.restFunctions,
        what: "listFunctions()",
        repeatable: true,
        read: Answers.readFunctions
      }),
    deleteFunction: (functionId) =>
      Effect.flatMap(
        checked(() => checkName("function id", functionId)),
        (id) =>
          Effect.asVoid(
            call({
              endpoint: endpoints.deleteFunction,
              variables: { id },
              what: `deleteFunction(${quote(id)})`,
              repeatable: false,
              ours: true,
              notFound: () => new FunctionNotFoundError(id),
              orElse: withoutEndpoint(
                `deleteFunction(${quote(id)})`,
                "Its runs wait until a worker has the function"
              ),
              read: () => done
            })
          )
      ),
    listWorkers: () =>
      listed({
        endpoint: endpoints.restWorkers,
        what: "listWorkers()",
        repeatable: true,
        read: Answers.readWorkers
      }),
    getCapabilities: () =>
      call({
        endpoint: endpoints.restCapabilities,
        what: "getCapabilities()",
        repeatable: true,
        orElse: withoutEndpoint("getCapabilities()", "It is a server of an earlier version"),
        read: Answers.readCapabilities
      }),
    // once: who asks whether the server is well wants to know how it is now
    health: () =>
      call({
        endpoint: endpoints.health,
        body: "{}",
        what: "health()",
        repeatable: false,
        once: true,
        read: Answers.readHealth
      })
  }
}

/** A server reads an empty key as none, and would emit twice. */
const idempotencyKey = (key: string | undefined): { readonly idempotencyKey?: string } =>
  key === undefined ? {} : { idempotencyKey: JSON.stringify(checkIdempotencyKey(key)) }

/** A server reads an empty step as none, and would go on somewhere else. */
const withStep = <A>(
  runId: string,
  fromStep: string | undefined,
  then: () => Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  fromStep === "" ? Effect.fail(new StepNotFoundError(runId, fromStep)) : then()

interface Ended {
  readonly run: Run | undefined
  /** Whether the server has waited. */
  readonly waited: boolean
}

type Fields = { readonly [name: string]: unknown }

/** In a path an empty id would ask for something else. */
const withId = <A>(
  runId: string,
  then: () => Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  Effect.suspend(() =>
    typeof runId === "string" && runId !== "" ? then() : Effect.fail(new RunNotFoundError(String(runId)))
  )

const stopwatch = (clock: Clock.Clock): (() => number) => {
  const started = clock.monotonicTimeNanosUnsafe()
  return () => Number(clock.monotonicTimeNanosUnsafe() - started) / 1e6
}
