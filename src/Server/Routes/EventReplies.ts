/** Replies to calls that read events: a page of events, one event, and what became of an event. */
import * as Effect from "effect/Effect"
import { checked } from "../../CheckAsEffect.ts"
import { mayKnowEvent } from "../../Engine/Access/RunAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { FoundEvent } from "../../Engine/Log/LogRecords.ts"
import { cursorOf, queryOf } from "../../Engine/Events/EventList.ts"
import { EventNotFoundError, type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { checkCursor, checkName } from "../../Limits.ts"
import { membersOf, otherCase } from "../../Protocol/Codec.ts"
import {
  checkListEvents,
  type EventExplanation,
  type ListEventsOptions,
  callSpecs
} from "../../Protocol/Events.ts"
import { checkPattern } from "../../Pattern.ts"
import { readPageQuery } from "../Http/PagedReply.ts"
import type { Call, Reply } from "../Http/Route.ts"
import { show } from "../../Show.ts"

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1000

/** Replies with a page of events, as the query of the request asks, newest first. */
export const listEvents = (engine: EngineService, call: Call): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const query = yield* checked(() => readQuery(call.query))
    const { events, next } = yield* engine.log.list(
      { environment: call.environment, order: "newest", ...query },
      mayShow(call)
    )
    return reply(events, next)
  })

/** Replies with a page of events, as the body of the request asks, in either order. */
export const findEvents = (
  engine: EngineService,
  options: ListEventsOptions,
  call: Call
): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const query = yield* checked(() => {
      checkMembers(call.body)
      return queryOf(call.environment, options)
    })
    const page = yield* engine.log.list(query, mayShow(call))
    const { nextCursor } = cursorOf(options, page)
    const { lookedTo } = page
    return reply(
      page.events,
      nextCursor,
      lookedTo === undefined
        ? ""
        : `,"lookedTo":{"sequence":"${lookedTo.position}","timestamp":"${timeOf(lookedTo)}"}`
    )
  })

/** One event, if the caller may see it. */
export const findEvent = (
  engine: EngineService,
  eventId: string,
  call: Call
): Effect.Effect<Reply, IronflowError> =>
  Effect.flatMap(
    checked(() => checkName("event id", eventId)),
    (id) =>
      Effect.flatMap(engine.log.get(call.environment, id), (event) =>
        event === undefined || !mayShow(call)(event)
          ? Effect.fail(new EventNotFoundError(id))
          : Effect.succeed({ status: 200, text: encode(event) })
      )
  )

/**
 * What became of an event, if the caller may see it. Functions and runs that the caller may not see are left
 * out.
 */
export const explainEvent = (
  engine: EngineService,
  eventId: string,
  call: Call
): Effect.Effect<EventExplanation, IronflowError> =>
  Effect.gen(function* () {
    const { caller, environment } = call
    const id = yield* checked(() => checkName("event id", eventId))
    const event = yield* engine.log.get(environment, id)
    if (event === undefined || !mayShow(call)(event)) return yield* new EventNotFoundError(id)
    const explanation = yield* engine.client(environment).explainEvent(id)
    const functions = explanation.functions.flatMap(({ runs, ...verdict }) => {
      if (caller?.isNotDenied("function:read", `function:${verdict.functionId}`, environment) === false)
        return []
      if (runs === undefined) return [verdict]
      const visibleRuns = runs.filter(
        ({ runId }) => caller?.isNotDenied("run:read", `run:${runId}`, environment) ?? true
      )
      return visibleRuns.length === 0 ? [] : [{ ...verdict, runs: visibleRuns }]
    })
    return { ...explanation, functions }
  })

const members = new Set(
  Object.keys(membersOf(callSpecs.listEvents.body!)).flatMap((name) => [name, otherCase(name) ?? name])
)

/** Refuses unknown filters and an empty cursor. If they were ignored, the list would have events that were not asked for. */
const checkMembers = (body: unknown): void => {
  const unknownName = isObject(body) ? Object.keys(body).find((name) => !members.has(name)) : undefined
  // gives an unknown member the message of an unknown option
  if (unknownName !== undefined) checkListEvents({ [unknownName]: true })
  if (isObject(body) && body.cursor === null) checkCursor("listEvents", null)
}

const timeOf = ({ timestamp }: { readonly timestamp: number }): string => new Date(timestamp).toISOString()

/** Makes a function that checks whether the caller may see an event. */
const mayShow =
  ({ caller, environment, shows }: Call) =>
  ({ entity, name }: FoundEvent): boolean =>
    shows(`events:${name}`) && mayKnowEvent(caller, environment, { name, ...(entity && { entity }) })

const readQuery = (query: URLSearchParams) => {
  const { after, limit } = readPageQuery(query, MAX_LIMIT) ?? { after: "", limit: DEFAULT_LIMIT }
  const name = query.get("name") || undefined
  if (after !== "" && !/^\d{1,15}$/.test(after)) {
    throw new ValidationError(`The cursor must be the \`nextCursor\` of an earlier page, got ${show(after)}`)
  }
  return {
    limit,
    ...(after === "" ? {} : { cursor: Number(after) }),
    ...(name === undefined ? {} : { name: checkPattern(name, "name of the events") })
  }
}

/** Encodes an event. Its data is sent as it is stored, and not parsed. */
const encode = ({
  data,
  entity,
  id,
  idempotencyKey,
  metadata,
  name,
  position,
  source,
  timestamp,
  version
}: FoundEvent): string =>
  `{"id":${JSON.stringify(id)},"name":${JSON.stringify(name)},"version":${version},"data":${data},` +
  `"timestamp":"${timeOf({ timestamp })}","sequence":"${position}"` +
  (source === undefined ? "" : `,"source":${JSON.stringify(source)}`) +
  (idempotencyKey === undefined ? "" : `,"idempotencyKey":${JSON.stringify(idempotencyKey)}`) +
  (metadata === undefined ? "" : `,"metadata":${metadata}`) +
  (entity === undefined ? "}" : `,"entity":${JSON.stringify(entity)}}`)

const reply = (events: ReadonlyArray<FoundEvent>, cursor: number | string | undefined, more = ""): Reply => ({
  status: 200,
  text: `{"events":[${events.map(encode).join(",")}]${cursor === undefined ? "" : `,"nextCursor":"${cursor}"`}${more}}`
})
