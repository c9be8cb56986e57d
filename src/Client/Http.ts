/**
 * Events, runs and functions over HTTP. Each method makes its requests over a {@link Connection}.
 *
 * Calls that are safe to repeat (most reads, and calls with an idempotency key) are tried up to three times, or as
 * often as the option `retry` says, when the connection fails or the server is busy (429, 502, 503). Other calls are
 * repeated only when it is certain that the server did not receive them: there was no connection, or the server, when
 * it stopped, said that it had not received the call.
 *
 * The server may be the engine of this package ("our engine") or a legacy server. On a legacy server, calls that only
 * our engine has fail with code `UNIMPLEMENTED`.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, LimitExceededError, RunNotFoundError, StepNotFoundError } from "../Errors.ts"
import { checkEventVersion } from "../Event.ts"
import { byteLength, encodeJson } from "../Json.ts"
import {
  checkCursor,
  checkIdempotencyKey,
  checkLimit,
  checkName,
  checkReason,
  checkStep,
  writeBytes
} from "../Limits.ts"
import { encodeMetadata } from "../Metadata.ts"
import { reader, snakeKeys } from "../Protocol/Codec.ts"
import * as events from "../Protocol/Events.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import * as runCounts from "../Protocol/RunCounts.ts"
import * as runForks from "../Protocol/RunForks.ts"
import * as runs from "../Protocol/Runs.ts"
import type { WireRun } from "../Protocol/Runs.ts"
import * as serverCalls from "../Protocol/Server.ts"
import * as topics from "../Protocol/Topics.ts"
import { restWorkers } from "../Protocol/Workers.ts"
import type {
  AuditEvent,
  ClientApi,
  EffectKind,
  EmitOptions,
  PublishOptions,
  Run,
  RunLogLine,
  RunStep,
  TopicInfo,
  WaitForRunOptions
} from "./Client.ts"
import * as FunctionsHttp from "./FunctionsHttp.ts"
import type { Raw } from "./NarrowErrors.ts"
import { makeEmitSync } from "./EmitSync.ts"
import { makeEmitMethods, type NamedEmit } from "./TypedEmit.ts"
import { make as makeBulk } from "./BulkHttp.ts"
import * as Answers from "./HttpAnswers.ts"
import { type Call, ignoredAnswer, makeCalls, jsonObject, quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Connection } from "./HttpConnection.ts"
import { callPages } from "./HttpPages.ts"
import { checkVariable, makeOperationCalls } from "./OperationCalls.ts"
import { unsupportedFilters, encodeFilters, areFiltersApplied } from "./RunFilterBody.ts"
import { makeWaitForRun } from "./WaitForRun.ts"

const triggerBody = ({ data, idempotencyKey: key, metadata, name, version }: NamedEmit): string => {
  const what = `event ${quote(checkName("event name", name))}`
  return jsonObject({
    event: JSON.stringify(name),
    data: encodeJson(data, `data of ${what}`) ?? "{}",
    ...(version === undefined ? {} : { version: String(checkEventVersion(name, version)) }),
    ...idempotencyKey(key),
    metadata: encodeMetadata(`The metadata of ${what}`, metadata ?? undefined)
  })
}

/** Makes the methods, over a connection. */
export const make = (connection: Connection): Raw<ClientApi<EffectKind>> => {
  const calls = makeCalls(connection)
  const { failUnsupported } = calls
  const operationCalls = makeOperationCalls(connection)
  const { listItems, ask } = operationCalls

  /** Makes a request whose answer is a run. */
  const askRun = (
    operation: Operation<WireRun>,
    method: string,
    runId: string,
    body: object,
    more: Partial<Pick<Call<Run>, "notFoundIsText">> & {
      readonly whenUnsupported?: NonNullable<Call<Run>["whenUnsupported"]>
    } = {}
  ) => ask<WireRun, Run>(operation, method, { subject: runId, body, ...more }, Answers.readRun)

  const emit = (name: string, data: unknown, options: EmitOptions = {}) =>
    Effect.flatMap(
      validated(() => triggerBody({ ...options, name, data })),
      (body) =>
        ask(events.trigger, "emit", { subject: name, body, repeatable: options.idempotencyKey !== undefined })
    )

  const emitMany = (namedEvents: ReadonlyArray<NamedEmit>) =>
    Effect.flatMap(
      validated(() => {
        const bodies = namedEvents.map(triggerBody)
        const bytes = bodies.reduce((total, body) => total + byteLength(body), 0)
        if (bytes > writeBytes) throw new LimitExceededError("A batch of events", bytes, writeBytes, "bytes")
        return `{"events":[${bodies.join(",")}]}`
      }),
      (body) =>
        ask(
          events.triggerBatch,
          "emitMany",
          { body, repeatable: namedEvents.every(({ idempotencyKey }) => idempotencyKey !== undefined) },
          (answer) => {
            const results = readEmittedMany(answer)?.results ?? []
            return results.length === namedEvents.length ? results : undefined
          }
        )
    )

  const emitMethods = makeEmitMethods({ emit, emitMany })

  const publish = (topic: string, data: unknown, options: PublishOptions = {}) =>
    Effect.flatMap(
      validated(() =>
        jsonObject({
          topic: JSON.stringify(checkName("topic", topic)),
          data: encodeJson(data, `message for topic ${quote(topic)}`) ?? "{}",
          ...idempotencyKey(options.idempotencyKey)
        })
      ),
      (body) =>
        ask(topics.publish, "publish", {
          subject: topic,
          body,
          repeatable: options.idempotencyKey !== undefined
        })
    )

  const getRun = (runId: string) => askRun(runs.getRun, "getRun", runId, { id: runId })

  const explain = (runId: string) =>
    callWithId("explain", runId, () =>
      ask(
        runs.explainRun,
        "explain",
        {
          variables: { id: runId },
          whenUnsupported: failUnsupported(`explain(${quote(runId)})`, "getRun shows the status of the run")
        },
        Answers.readExplanation
      )
    )

  const waitForEnd = makeWaitForRun({ ask, explain, getRun, timeoutMs: connection.server.timeoutMs })

  const waitForRun = (runId: string, options?: WaitForRunOptions) =>
    callWithId("waitForRun", runId, () => waitForEnd(runId, options))

  return {
    ...emitMethods,
    emitSync: makeEmitSync({ emit: emitMethods.emit, waitForRun }),
    publish,
    listTopics: () =>
      callPages<TopicInfo>(calls, {
        address: topics.listTopics,
        body: "{}",
        what: "listTopics()",
        repeatable: true,
        read: (answer) => readTopics(answer)?.topics
      }),
    getTopicStats: (topic) =>
      Effect.map(
        ask(topics.getTopicStats, "getTopicStats", { subject: topic, body: { topic } }),
        // legacy servers leave out the name of the topic
        (stats) => ({ ...stats, name: stats.name || topic })
      ),
    listEvents: (options = {}) =>
      Effect.flatMap(
        validated(() => events.checkListEvents(options)),
        (body) =>
          ask(events.listEvents, "listEvents", {
            body,
            whenUnsupported: failUnsupported(
              "listEvents()",
              "A subscription with `replay` delivers the last events"
            )
          })
      ),
    getEvent: (eventId) =>
      Effect.flatMap(
        validated(() => checkName("event id", eventId)),
        (id) =>
          ask(events.getEvent, "getEvent", {
            subject: id,
            body: { id },
            whenUnsupported: failUnsupported(
              `getEvent(${quote(id)})`,
              "A subscription with `replay` delivers the last events"
            )
          })
      ),
    explainEvent: (eventId) =>
      Effect.flatMap(
        validated(() => checkName("event id", eventId)),
        (id) =>
          ask(events.explainEvent, "explainEvent", {
            variables: { id },
            whenUnsupported: failUnsupported(`explainEvent(${quote(id)})`, "listRuns lists the runs")
          })
      ),
    getRun,
    listRuns: (options = {}) =>
      Effect.flatMap(
        validated(() => ({
          ...encodeFilters(options),
          limit: options.limit === undefined ? undefined : checkLimit("listRuns", options.limit),
          cursor: options.cursor === undefined ? undefined : checkCursor("listRuns", options.cursor)
        })),
        (query) =>
          Effect.filterOrFail(
            ask(runs.listRuns, "listRuns", { body: query }, Answers.readRuns),
            (page) => areFiltersApplied(query, page),
            () => unsupportedFilters(connection.server.url)
          )
      ),
    countRuns: (options) =>
      Effect.flatMap(
        validated(() => {
          const { filters, ...grouping } = runCounts.checkCountRuns(options)
          return {
            ...grouping,
            ...(Object.keys(filters).length === 0 ? {} : { filters: encodeFilters(filters) })
          }
        }),
        (body) =>
          ask(runCounts.countRuns, "countRuns", {
            body,
            // the server may take `timeLimit` to count, before it answers
            timeoutMs: (body.timeLimit ?? 0) + connection.server.timeoutMs,
            whenUnsupported: failUnsupported("countRuns()", "listRuns lists the runs")
          })
      ),
    getRunSteps: (runId) =>
      Effect.catchIf(
        ask(
          runs.getRunSteps,
          "getRunSteps",
          {
            subject: runId,
            body: { runId },
            whenUnsupported: failUnsupported(
              `getRunSteps(${quote(runId)})`,
              "getRun shows the status of the run"
            )
          },
          Answers.readSteps
        ),
        // when the steps are too many for one answer, they are read page by page
        ({ code }) => code === "LIMIT_EXCEEDED",
        () =>
          callPages<RunStep>(calls, {
            address: runs.restRunSteps,
            variables: { id: runId },
            what: `getRunSteps(${quote(runId)})`,
            repeatable: true,
            notFound: () => new RunNotFoundError(runId),
            read: Answers.readSteps
          })
      ),
    getRunAudit: (runId) =>
      callWithId("getRunAudit", runId, () =>
        callPages<AuditEvent>(calls, {
          address: runs.runAudit,
          variables: { id: runId },
          what: `getRunAudit(${quote(runId)})`,
          repeatable: true,
          onlyOurEngine: true,
          notFound: () => new RunNotFoundError(runId),
          whenUnsupported: failUnsupported(`getRunAudit(${quote(runId)})`, "getRunSteps shows the steps"),
          read: (answer) => readAudit(answer)?.events
        })
      ),
    getRunLogs: (runId) =>
      callWithId("getRunLogs", runId, () =>
        callPages<RunLogLine>(calls, {
          address: runs.runLogs,
          variables: { id: runId },
          what: `getRunLogs(${quote(runId)})`,
          repeatable: true,
          onlyOurEngine: true,
          notFound: () => new RunNotFoundError(runId),
          whenUnsupported: failUnsupported(
            `getRunLogs(${quote(runId)})`,
            "The logs of the workers contain the lines"
          ),
          read: (answer) => readLogs(answer)?.lines
        })
      ),
    explain,
    ...makeBulk(connection),
    waitForRun,
    cancelRun: (runId, givenReason) =>
      Effect.flatMap(
        validated(() => checkReason("cancelRun", givenReason)),
        (reason) => askRun(runs.cancelRun, "cancelRun", runId, { id: runId, reason })
      ),
    retryRun: (runId, fromStep) =>
      callWithStep(runId, fromStep, () =>
        askRun(
          runs.retryRun,
          "retryRun",
          runId,
          { id: runId, fromStep },
          {
            whenUnsupported: failUnsupported(
              `retryRun(${quote(runId)})`,
              "Use resumeRun, which retries failed runs too"
            )
          }
        )
      ),
    resumeRun: (runId, fromStep) =>
      callWithStep(runId, fromStep, () =>
        askRun(runs.restResumeRun, "resumeRun", runId, snakeKeys({ runId, fromStep: fromStep ?? "" }), {
          notFoundIsText: true
        })
      ),
    pauseRun: (runId, givenReason) =>
      validated(() => checkReason("pauseRun", givenReason)).pipe(
        Effect.flatMap((reason) =>
          ask<object, { readonly run: Run | undefined }>(
            runs.pauseRun,
            "pauseRun",
            {
              subject: runId,
              body: snakeKeys({ runId, reason }),
              whenUnsupported: failUnsupported(`pauseRun(${quote(runId)})`, "cancelRun ends the run")
            },
            (answer) => ({ run: Answers.readPaused(answer) })
          )
        ),
        // legacy servers only return the status
        Effect.flatMap(({ run }) => (run === undefined ? getRun(runId) : Effect.succeed(run)))
      ),
    patchStep: (stepId, output, reason) =>
      Effect.flatMap(
        validated(() =>
          jsonObject(
            snakeKeys({
              stepId: JSON.stringify(stepId),
              output: encodeJson(output, `output for step ${quote(stepId)}`) ?? "null",
              reason: JSON.stringify(checkReason("patchStep", reason))
            })
          )
        ),
        (body) =>
          Effect.asVoid(
            ask(
              runs.restPatchStep,
              "patchStep",
              {
                subject: stepId,
                body,
                notFoundIsText: true,
                notFound: () => new RunNotFoundError(String(stepId).split(":")[0] ?? "")
              },
              () => ignoredAnswer
            )
          )
      ),
    forkRun: (runId, { data, from, steps } = {}) =>
      callWithId("forkRun", runId, () =>
        callWithStep(runId, from, () =>
          Effect.flatMap(
            validated(() =>
              jsonObject({
                from: from === undefined ? undefined : JSON.stringify(from),
                steps: steps === undefined ? undefined : encodeJson(steps, "`steps` of forkRun"),
                data: encodeJson(data, `data for the fork of run ${quote(runId)}`)
              })
            ),
            (body) =>
              ask(
                runForks.forkRun,
                "forkRun",
                {
                  variables: { id: runId },
                  body,
                  whenUnsupported: failUnsupported(
                    `forkRun(${quote(runId)})`,
                    "Emit the event of the run again for a new run"
                  )
                },
                Answers.readRun
              )
          )
        )
      ),
    moveRun: (runId, { version } = {}) =>
      callWithId("moveRun", runId, () =>
        Effect.flatMap(
          validated(() => (version === undefined ? {} : { version: checkName("version", version) })),
          (body) =>
            ask(
              runForks.moveRun,
              "moveRun",
              {
                variables: { id: runId },
                body,
                whenUnsupported: failUnsupported(
                  `moveRun(${quote(runId)})`,
                  "Runs of that server do not belong to versions"
                )
              },
              Answers.readRun
            )
        )
      ),
    ...FunctionsHttp.make(operationCalls),
    listWorkers: () => listItems(restWorkers, "listWorkers", ({ workers }) => workers),
    getCapabilities: () =>
      ask(serverCalls.restCapabilities, "getCapabilities", {
        whenUnsupported: failUnsupported("getCapabilities()", "That server has no optional capabilities")
      }),
    // not repeated: the caller wants to know the health now
    health: () =>
      Effect.map(
        ask(serverCalls.health, "health", { body: {}, isNeverRepeated: true }),
        ({ status }) => status
      )
  }
}

const readEmittedMany = reader(events.ManyEmitted)
const readAudit = reader(runs.Audit)
const readLogs = reader(runs.Logs)
const readTopics = reader(topics.Topics)

/**
 * The idempotency key of a call. An empty key is refused: servers read it as no key, and would emit twice.
 */
const idempotencyKey = (key: string | undefined): { readonly idempotencyKey?: string } =>
  key === undefined ? {} : { idempotencyKey: JSON.stringify(checkIdempotencyKey(key)) }

/**
 * Makes a call with a step. The step must not be empty or `null`: servers read these as no step, and would continue
 * the run at another step.
 */
const callWithStep = <A>(
  runId: string,
  fromStep: string | undefined,
  makeCall: () => Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  fromStep === ""
    ? Effect.fail(new StepNotFoundError(runId, fromStep))
    : Effect.andThen(
        validated(() => checkStep(fromStep)),
        Effect.suspend(makeCall)
      )

/** Makes a call with an id in its path. The id must not be empty: the path would then be the path of another call. */
const callWithId = <A>(
  what: string,
  runId: string,
  makeCall: () => Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  Effect.andThen(
    validated(() => checkVariable(what, runId)),
    Effect.suspend(makeCall)
  )
