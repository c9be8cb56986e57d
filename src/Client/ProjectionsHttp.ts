/** Projections of a server elsewhere. What only the engine of this package has fails with `UNIMPLEMENTED` on others. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  InvalidStateError,
  type IronflowError,
  ProjectionBehindError,
  ProjectionNotFoundError,
  ValidationError
} from "../Errors.ts"
import { isObject, numberOf } from "../Json.ts"
import { GLOBAL_PARTITION } from "../Projection/Partition.ts"
import { checkProjectionName } from "../Projection/Projection.ts"
import { type Endpoint, endpoints } from "../Protocol/Http/Endpoints.ts"
import { MAX_WAIT_MS } from "../Protocol/Http/Turns.ts"
import { type ProjectionStatus, projectionStatuses } from "../Protocol/Projections.ts"
import { show } from "../Show.ts"
import type { EffectKind } from "./Client.ts"
import { type Call, checked, done, makeCalls, quote } from "./HttpCalls.ts"
import { callPages } from "./HttpPages.ts"
import type { Raw } from "./Named.ts"
import type { Connection } from "./HttpConnection.ts"
import type { ChangesPage, ReadChanges } from "./ProjectionUpdates.ts"
import {
  type Catchup,
  CATCHUP_TIMEOUT_MS,
  type CatchupOptions,
  type DeadLetter,
  type ProjectionsApi,
  type ProjectionStateResult,
  type ProjectionStatusInfo
} from "./Projections.ts"

/** Which states have changed, by our engine. */
export const makeReadChanges = (connection: Connection): ReadChanges => {
  const { call } = makeCalls(connection)
  return (name, query) => {
    const search = new URLSearchParams()
    for (const [field, value] of Object.entries(query))
      if (value !== undefined) search.set(field, String(value))
    return Effect.map(
      call<{ readonly page: ChangesPage | undefined }>({
        endpoint: endpoints.projectionChanges,
        variables: { name },
        query: `?${search}`,
        what: `projections.subscribe(${quote(name)})`,
        repeatable: true,
        notFound: () => new ProjectionNotFoundError(name),
        ours: true,
        orElse: () => Effect.succeed({ page: undefined }),
        read: (answer) => {
          const page = readChanges(name, answer)
          return page === undefined ? undefined : { page }
        }
      }),
      ({ page }) => page
    )
  }
}

/** The methods over a connection. */
export const make = (connection: Connection): Raw<ProjectionsApi<EffectKind>> => {
  const calls = makeCalls(connection)
  const { call, withoutEndpoint } = calls

  const about = <A>(
    endpoint: Endpoint,
    method: string,
    name: string,
    more: Pick<Call<A>, "read"> & Partial<Call<A>>
  ): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      checked(() => checkProjectionName(name)),
      () =>
        call<A>({
          endpoint,
          variables: { name },
          what: `projections.${method}(${quote(name)})`,
          repeatable: endpoint.method === "GET",
          notFound: () => new ProjectionNotFoundError(name),
          ...(endpoint.method === "POST" ? { body: "{}" } : {}),
          ...more
        })
    )

  /** Servers that answer a change with nothing, or with little, are asked for the status. */
  const changing = (
    endpoint: Endpoint,
    method: string,
    name: string,
    body: { readonly [field: string]: unknown } = {}
  ): Effect.Effect<ProjectionStatusInfo, IronflowError> =>
    Effect.flatMap(
      about<{ readonly info: ProjectionStatusInfo | undefined }>(endpoint, method, name, {
        body: JSON.stringify(body),
        read: (answer) => ({ info: isComplete(answer) ? readStatus(answer) : undefined })
      }),
      ({ info }) => (info === undefined ? status(name) : Effect.succeed(info))
    )

  const status = (name: string) => about(endpoints.projectionStatus, "status", name, { read: readStatus })

  const waitFor = (
    name: string,
    options: CatchupOptions | undefined
  ): Effect.Effect<Catchup, IronflowError> =>
    Effect.gen(function* () {
      const { after, timeout = CATCHUP_TIMEOUT_MS } = options ?? {}
      if (after === undefined) return { lastEventSeq: (yield* status(name)).lastEventSeq }
      if (!Number.isSafeInteger(after) || after < 0) {
        return yield* new ValidationError(
          `\`after\` must be a position in the log, such as \`position\` of what emit() returned; got ${show(after)}`
        )
      }
      if (!(timeout >= 0 && Number.isFinite(timeout))) {
        return yield* new ValidationError(
          `\`timeout\` must be a number of milliseconds, got ${show(timeout)}`
        )
      }
      const clock = yield* Clock.Clock
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const deadline = now() + timeout
      while (true) {
        const waitMs = Math.min(Math.max(0, Math.ceil(deadline - now())), MAX_WAIT_MS)
        const answer = yield* about(endpoints.projectionCatchup, "waitForCatchup", name, {
          query: `?minSeq=${after}&timeout=${waitMs}`,
          timeoutMs: waitMs + connection.server.timeoutMs,
          read: readCatchup
        })
        if (answer.caughtUp) return { lastEventSeq: answer.lastEventSeq }
        if (now() >= deadline) {
          return yield* new ProjectionBehindError(name, answer.lastEventSeq, after, timeout, answer.message)
        }
      }
    })

  return {
    get: (name, options = {}) =>
      Effect.gen(function* () {
        if (options.after !== undefined) yield* waitFor(name, options)
        const { partition } = options
        return yield* about<ProjectionStateResult>(endpoints.restGetProjection, "get", name, {
          query: partition === undefined ? "" : `?partition=${encodeURIComponent(partition)}`,
          read: (answer) => readState(answer, partition ?? GLOBAL_PARTITION)
        })
      }),
    list: () =>
      callPages<ProjectionStatusInfo>(calls, {
        endpoint: endpoints.listProjections,
        what: "projections.list()",
        repeatable: true,
        read: (answer) => {
          const items = isObject(answer) ? answer.projections : answer
          return Array.isArray(items) ? items.flatMap((item) => readStatus(item) ?? []) : undefined
        }
      }),
    status,
    waitForCatchup: waitFor,
    // the answer is about the rebuild, which other servers do as a job
    rebuild: (name) =>
      Effect.andThen(about(endpoints.rebuildProjection, "rebuild", name, { read: () => done }), status(name)),
    pause: (name, { by, reason } = {}) =>
      changing(endpoints.pauseProjection, "pause", name, {
        ...(by === undefined ? {} : { by }),
        ...(reason === undefined ? {} : { reason })
      }),
    resume: (name) => changing(endpoints.resumeProjection, "resume", name),
    delete: (name) => Effect.asVoid(about(endpoints.deleteProjection, "delete", name, { read: () => done })),
    deadLetters: (name, { after = 0, limit = 100 } = {}) =>
      about(endpoints.deadLetters, "deadLetters", name, {
        query: `?after=${after}&limit=${limit}`,
        ours: true,
        orElse: withoutEndpoint(
          `projections.deadLetters(${quote(name)})`,
          "Its log says which events failed"
        ),
        read: (answer) =>
          isObject(answer) && Array.isArray(answer.dead_letters)
            ? // only our engine has them, and it sends them as they are
              (answer.dead_letters as Array<DeadLetter>)
            : undefined
      }),
    retryDeadLetter: (name, position) =>
      Number.isSafeInteger(position)
        ? Effect.asVoid(retry(name, "retryDeadLetter", { position }))
        : Effect.fail(
            new InvalidStateError(
              `Projection ${quote(name)} has no dead letter at position ${show(position)}`
            )
          ),
    retryDeadLetters: (name) => retry(name, "retryDeadLetters", {})
  }

  function retry(name: string, method: string, body: { readonly position?: number }) {
    return about(endpoints.retryDeadLetters, method, name, {
      body: JSON.stringify(body),
      ours: true,
      orElse: withoutEndpoint(`projections.${method}(${quote(name)})`, "rebuild projects everything again"),
      read: (answer) => (isObject(answer) ? numberOf(answer.retrying) : undefined)
    })
  }
}

type Fields = { readonly [name: string]: unknown }

/** What a server leaves out is absent; a year-1 time is how some say that there is none. */
const textIn = (of: Fields, name: string): string | undefined => {
  const value = of[name]
  return typeof value === "string" && value !== "" && !value.startsWith("0001-") ? value : undefined
}

const numberIn = (of: Fields, name: string): number => {
  const value = numberOf(of[name])
  return Number.isFinite(value) ? value : 0
}

const statusIn = (of: Fields): ProjectionStatus => {
  const value = textIn(of, "status")
  return projectionStatuses.find((status) => status === value) ?? "active"
}

/** Whether the answer to a change says all that a status does. */
const isComplete = (answer: unknown): boolean => isObject(answer) && "lag" in answer && "name" in answer

const readStatus = (answer: unknown): ProjectionStatusInfo | undefined => {
  if (!isObject(answer)) return undefined
  const name = textIn(answer, "name")
  if (name === undefined) return undefined
  // our engine's fields, whose names only change their spelling; those of other servers are among them
  const known: { [field: string]: unknown } = {}
  for (const [field, value] of Object.entries(answer)) {
    known[field.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())] = value
  }
  const status = statusIn(answer)
  return {
    message: `${name} is ${status}`,
    events: [],
    generation: 0,
    deadLetters: 0,
    refusedSaves: 0,
    createdAt: textIn(answer, "updated_at") ?? "",
    ...known,
    name,
    status,
    mode: answer.mode === "external" ? "external" : "managed",
    lastEventSeq: numberIn(answer, "last_event_seq"),
    lag: numberIn(answer, "lag"),
    updatedAt: textIn(answer, "updated_at") ?? ""
  }
}

const readState = (answer: unknown, partition: string): ProjectionStateResult | undefined => {
  if (!isObject(answer)) return undefined
  const row = isObject(answer.state) ? answer.state : undefined
  // a row without a state of its own is none
  if (row !== undefined && !("state" in row)) return undefined
  const lastEventId = row === undefined ? undefined : textIn(row, "last_event_id")
  const lastEventTime = row === undefined ? undefined : textIn(row, "last_event_time")
  const errorMessage = textIn(answer, "error_message")
  return {
    name: textIn(answer, "name") ?? "",
    partition: (row === undefined ? undefined : textIn(row, "partition_key")) ?? partition,
    state: row === undefined ? {} : row.state,
    ...(lastEventId === undefined ? {} : { lastEventId }),
    ...(lastEventTime === undefined ? {} : { lastEventTime }),
    lastEventSeq: numberIn(answer, "last_event_seq"),
    version: numberIn(answer, "version"),
    mode: answer.mode === "external" ? "external" : "managed",
    status: statusIn(answer),
    ...(errorMessage === undefined ? {} : { errorMessage }),
    updatedAt: textIn(answer, "updated_at") ?? ""
  }
}

const readChanges = (name: string, answer: unknown): ChangesPage | undefined => {
  if (!isObject(answer) || typeof answer.cursor !== "string" || !Array.isArray(answer.states))
    return undefined
  const next = answer.next
  return {
    mode: answer.mode === "external" ? "external" : "managed",
    status: statusIn(answer),
    cursor: answer.cursor,
    states: answer.states.filter(isObject).flatMap((row) => {
      const { error_message, status } = answer
      const version = numberIn(row, "version")
      const last_event_seq = numberIn(row, "last_event_seq")
      const { updated_at } = row
      const result = readState(
        { name, status, error_message, version, last_event_seq, updated_at, state: row },
        ""
      )
      return result === undefined ? [] : { revision: numberIn(row, "revision"), result }
    }),
    ...(typeof next === "string" ? { next } : {})
  }
}

const readCatchup = (answer: unknown) =>
  isObject(answer) && typeof answer.caughtUp === "boolean"
    ? {
        caughtUp: answer.caughtUp,
        lastEventSeq: numberIn(answer, "currentSeq"),
        message:
          textIn(answer, "message") ?? `${numberIn(answer, "behindByEvents")} events wait to be projected.`
      }
    : undefined
