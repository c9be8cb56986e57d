/**
 * Projections over HTTP. Calls that only the engine of this package ("our engine") has fail with `UNIMPLEMENTED` on
 * legacy servers.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { InvalidStateError, type IronflowError, ProjectionBehindError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { GLOBAL_PARTITION } from "../Projection/Partition.ts"
import { checkProjectionName } from "../Projection/Projection.ts"
import { reader } from "../Protocol/Codec.ts"
import { MAX_WAIT_MS } from "../Protocol/Http/Turns.ts"
import * as operations from "../Protocol/Projections.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import { show } from "../Show.ts"
import type { EffectKind } from "./Client.ts"
import { ignoredAnswer, makeCalls, quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import { callPages } from "./HttpPages.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { Connection } from "./HttpConnection.ts"
import type { ChangesPage, ReadChanges } from "./ProjectionUpdates.ts"
import {
  type Catchup,
  type CatchupOptions,
  checkCatchup,
  type GetProjectionOptions,
  type ProjectionsApi,
  type ProjectionStateResult,
  type ProjectionStatusInfo,
  stateOfNothing
} from "./Projections.ts"
import { makeOperationCalls } from "./OperationCalls.ts"

/** Makes the function that reads changed states, which only our engine can list. */
export const makeReadChanges = (connection: Connection): ReadChanges => {
  const { ask } = makeOperationCalls(connection)
  return (name, query) => {
    const search = new URLSearchParams()
    for (const [field, value] of Object.entries(query))
      if (value !== undefined) search.set(field, String(value))
    return Effect.map(
      ask<unknown, { readonly page: ChangesPage | undefined }>(
        operations.projectionChanges,
        "projections.subscribe",
        {
          variables: { name },
          query: `?${search}`,
          whenUnsupported: () => Effect.succeed({ page: undefined })
        },
        (answer) => {
          const page = changesOf(name, answer)
          return page === undefined ? undefined : { page }
        }
      ),
      ({ page }) => page
    )
  }
}

/** Makes the methods, over a connection. */
export const make = (connection: Connection): Raw<ProjectionsApi<EffectKind>> => {
  const calls = makeCalls(connection)
  const { ask } = makeOperationCalls(connection)

  /** Makes a call about one projection. */
  const askAboutProjection = <A, B = A>(
    operation: Operation<A>,
    method: string,
    name: string,
    input: Parameters<typeof ask<A, B>>[2] = {},
    read?: (answer: unknown) => B | undefined
  ): Effect.Effect<B, IronflowError> =>
    Effect.flatMap(
      validated(() => checkProjectionName(name)),
      () =>
        ask<A, B>(
          operation,
          `projections.${method}`,
          { variables: { name }, ...(operation.method === "POST" ? { body: "{}" } : {}), ...input },
          read
        )
    )

  /**
   * Makes a call that changes a projection, and returns the status of the projection. If the answer does not have
   * the status, reads it afterwards.
   */
  const change = (
    operation: Operation<ProjectionStatusInfo>,
    method: string,
    name: string,
    body: object = {}
  ): Effect.Effect<ProjectionStatusInfo, IronflowError> =>
    Effect.flatMap(
      askAboutProjection(operation, method, name, { body }, (answer) => ({
        info: isObject(answer) && "lag" in answer ? readStatus(answer) : undefined
      })),
      ({ info }) => (info === undefined ? status(name) : Effect.succeed(info))
    )

  const status = (name: string) =>
    askAboutProjection(operations.projectionStatus, "status", name, {}, readStatus)

  const waitFor = (
    call: "get" | "waitForCatchup",
    name: string,
    options: CatchupOptions | undefined
  ): Effect.Effect<Catchup, IronflowError> =>
    Effect.gen(function* () {
      const { after, timeout } = yield* validated(() => checkCatchup(call, options))
      if (after === undefined) return { lastEventSeq: (yield* status(name)).lastEventSeq }
      const clock = yield* Clock.Clock
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const deadline = now() + timeout
      while (true) {
        const waitMs = Math.min(Math.max(0, Math.ceil(deadline - now())), MAX_WAIT_MS)
        const { behindByEvents, caughtUp, currentSeq, message } = yield* askAboutProjection(
          operations.projectionCatchup,
          "waitForCatchup",
          name,
          { query: `?minSeq=${after}&timeout=${waitMs}`, timeoutMs: waitMs + connection.server.timeoutMs }
        )
        if (caughtUp) return { lastEventSeq: currentSeq }
        if (now() >= deadline) {
          return yield* new ProjectionBehindError(
            name,
            currentSeq,
            after,
            timeout,
            message ??
              `${behindByEvents === 1 ? "1 event waits" : `${behindByEvents} events wait`} to be projected.`
          )
        }
      }
    })

  const retry = (name: string, method: string, body: { readonly position?: number }) =>
    Effect.map(
      askAboutProjection(operations.retryDeadLetters, method, name, {
        body,
        whenUnsupported: calls.failUnsupported(
          `projections.${method}(${quote(name)})`,
          "Use rebuild, which projects the whole log again"
        )
      }),
      ({ retrying }) => retrying
    )

  return {
    get: (name, options = {}) =>
      Effect.gen(function* () {
        if (options.after !== undefined) yield* waitFor("get", name, options)
        const { partition } = options
        return yield* askAboutProjection(
          operations.restGetProjection,
          "get",
          name,
          { query: partition === undefined ? "" : `?partition=${encodeURIComponent(partition)}` },
          (answer) => resultOf(answer, options)
        )
      }),
    list: () =>
      callPages<ProjectionStatusInfo>(calls, {
        address: operations.listProjections,
        what: "projections.list()",
        repeatable: true,
        read: (answer) => {
          const items = isObject(answer) ? answer.projections : answer
          return Array.isArray(items) ? items.flatMap((item) => readStatus(item) ?? []) : undefined
        }
      }),
    status,
    waitForCatchup: (name, options) => waitFor("waitForCatchup", name, options),
    // the status is read afterwards: the answer of a legacy server is about the job that rebuilds
    rebuild: (name) =>
      Effect.andThen(
        askAboutProjection(operations.rebuildProjection, "rebuild", name, {}, () => ignoredAnswer),
        status(name)
      ),
    pause: (name, { by, reason } = {}) => change(operations.pauseProjection, "pause", name, { by, reason }),
    resume: (name) => change(operations.resumeProjection, "resume", name),
    delete: (name) => askAboutProjection(operations.deleteProjection, "delete", name),
    deadLetters: (name, { after = 0, limit = 100 } = {}) =>
      Effect.map(
        askAboutProjection(operations.deadLetters, "deadLetters", name, {
          query: `?after=${after}&limit=${limit}`,
          whenUnsupported: calls.failUnsupported(
            `projections.deadLetters(${quote(name)})`,
            "The log of that server shows which events failed"
          )
        }),
        ({ deadLetters }) => deadLetters
      ),
    retryDeadLetter: (name, position) =>
      Number.isSafeInteger(position)
        ? Effect.asVoid(retry(name, "retryDeadLetter", { position }))
        : Effect.fail(
            new InvalidStateError(
              `Projection ${quote(name)} has no dead letter at position ${show(position)}: deadLetters() lists the existing ones`
            )
          ),
    retryDeadLetters: (name) => retry(name, "retryDeadLetters", {})
  }
}

const readSentStatus = reader(operations.Status)

const readStatus = (answer: unknown): ProjectionStatusInfo | undefined => {
  const info = readSentStatus(answer)
  if (info === undefined) return undefined
  const { createdAt, message, name, status, updatedAt } = info
  return {
    ...info,
    message: message || `${name} is ${status}`,
    createdAt: createdAt || updatedAt
  }
}

const readState = reader(operations.ProjectionState)
const readChanges = reader(operations.ProjectionChanges)

const resultOf = (
  answer: unknown,
  { partition = GLOBAL_PARTITION, ...options }: GetProjectionOptions
): ProjectionStateResult | undefined => {
  // the member `state` of the answer is a row, and the member `state` of the row is the state of the projection; if
  // the row lacks that member, the answer cannot be read
  if (isObject(answer) && isObject(answer.state) && !("state" in answer.state)) return undefined
  const sentState = readState(answer)
  if (sentState === undefined) return undefined
  const { state: row, ...rest } = sentState
  return {
    ...rest,
    partition: row?.partitionKey || partition,
    state: row === undefined ? stateOfNothing(rest.mode, options) : row.state,
    ...(row === undefined ? {} : lastOf(row))
  }
}

/** The last event in a state. Some servers send empty strings when there is none. */
const lastOf = ({ lastEventId, lastEventTime }: { lastEventId: string; lastEventTime: string }) => ({
  ...(lastEventId === "" ? {} : { lastEventId }),
  ...(lastEventTime === "" ? {} : { lastEventTime })
})

const changesOf = (name: string, answer: unknown): ChangesPage | undefined => {
  const page = readChanges(answer)
  if (page === undefined) return undefined
  const { errorMessage, mode, states, status } = page
  return {
    ...page,
    states: states.map((row) => {
      const { lastEventSeq, partitionKey, revision = 0, state, updatedAt, version } = row
      return {
        revision,
        result: {
          name,
          partition: partitionKey,
          state,
          ...lastOf(row),
          lastEventSeq,
          version,
          mode,
          status,
          ...(errorMessage === undefined ? {} : { errorMessage }),
          updatedAt
        }
      }
    })
  }
}
