/** Consumer groups over HTTP: for those who look after them (REST), and the calls of `PubSubService` about them (Connect). */
import * as Effect from "effect/Effect"
import type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupStatus,
  ConsumerGroupUpdate
} from "../../Client/ConsumerGroups.ts"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { EndpointName } from "../../Protocol/Http/Endpoints.ts"
import {
  ackModeWords,
  backpressureWords,
  decodeWord,
  encodeGroup,
  statusWords
} from "../../Protocol/Http/GroupJson.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { reachOf } from "../Access/SubscriptionReach.ts"
import { type ConsumerGroupPage, type EngineConsumerGroups, PAGE } from "../ConsumerGroups.ts"
import type { EngineService } from "../Engine.ts"
import { type Call, checked, json, noContent, type Reply, type Route, route, variable } from "./Route.ts"

export const consumerGroupRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const groupsOf = (call: Call): EngineConsumerGroups => engine.consumerGroups(call.environment)

  /** The group of the path, with the namespace and the pattern of the query. */
  const steering = (
    name: EndpointName,
    steer: (
      groups: EngineConsumerGroups,
      name: string,
      choice: { readonly namespace?: string; readonly pattern?: string },
      call: Call
    ) => Effect.Effect<ConsumerGroup, IronflowError>
  ): Route =>
    route(name, (call) => {
      const group = variable(call, "name")
      const choice = choiceIn(call.query)
      return Effect.map(
        counting(call, group, choice, () => steer(groupsOf(call), group, choice, call)),
        (group) => json(group)
      )
    })

  const page = (
    call: Call,
    { status, ...query }: ReturnType<typeof readList>
  ): Effect.Effect<ConsumerGroupPage, IronflowError> =>
    // this engine keeps nothing of a deleted one
    status === "deleted"
      ? Effect.succeed({ groups: [], totalCount: 0 })
      : Effect.map(groupsOf(call).page({ ...query, ...(status === undefined ? {} : { status }) }), (page) => {
          const groups = page.groups.filter(
            ({ name, pattern }) => call.shows(name) && mayCount(call, pattern)
          )
          return { ...page, groups, totalCount: page.totalCount - (page.groups.length - groups.length) }
        })

  /** What is answered about a group counts what its pattern fits: nothing for those to whom a policy denies that. */
  const counting = (
    call: Call,
    name: string,
    choice: { readonly namespace?: string; readonly pattern?: string },
    then: () => Effect.Effect<ConsumerGroup, IronflowError>
  ): Effect.Effect<ConsumerGroup, IronflowError> =>
    call.caller?.isDenied("subscription:read") === true
      ? Effect.flatMap(groupsOf(call).get(name, choice), ({ pattern }) =>
          Effect.andThen(
            checked(() =>
              call.caller?.checkNotDenied(
                "subscription:read",
                `subscription:${pattern}`,
                call.environment,
                reachOf(pattern)
              )
            ),
            Effect.suspend(then)
          )
        )
      : then()

  /** Whoever may not subscribe to something may not count it by way of a group either. */
  const create = (call: Call, config: ConsumerGroupConfig) =>
    Effect.andThen(
      checked(() =>
        call.caller?.check(
          "subscription:read",
          `subscription:${config.pattern}`,
          call.environment,
          reachOf(config.pattern)
        )
      ),
      groupsOf(call).create(config)
    )

  return [
    route("restListConsumerGroups", (call) =>
      Effect.flatMap(
        checked(() => readList(Object.fromEntries(call.query))),
        (query) => Effect.map(page(call, query), (page) => json(page))
      )
    ),
    route("restCreateConsumerGroup", (call) =>
      Effect.flatMap(
        checked(() => createRequest(call.body) as ConsumerGroupConfig),
        (config) => Effect.map(create(call, config), (group) => json(group))
      )
    ),
    steering("restGetConsumerGroup", (groups, name, choice) => groups.get(name, choice)),
    steering("restUpdateConsumerGroup", (groups, name, choice, { body }) =>
      Effect.flatMap(
        checked(() => readChange(body)),
        (change) => groups.update(name, change, choice)
      )
    ),
    steering("restPauseConsumerGroup", (groups, name, choice, { body }) =>
      Effect.flatMap(
        checked(() => readPause(body)),
        (pause) => groups.pause(name, { ...choice, ...pause })
      )
    ),
    steering("restResumeConsumerGroup", (groups, name, choice) => groups.resume(name, choice)),
    route("restDeleteConsumerGroup", (call) =>
      Effect.as(groupsOf(call).delete(variable(call, "name"), choiceIn(call.query)), noContent)
    ),

    route("createConsumerGroup", (call) =>
      Effect.flatMap(
        checked(() => configOf(connectRequest(call.body))),
        (config) => Effect.map(create(call, config), answer)
      )
    ),
    route("getConsumerGroup", (call) =>
      Effect.flatMap(
        checked(() => choiceRequest(call.body)),
        ({ name, ...choice }) =>
          Effect.map(
            counting(call, name, filled(choice), () => groupsOf(call).get(name, filled(choice))),
            answer
          )
      )
    ),
    route("listConsumerGroups", (call) =>
      Effect.flatMap(
        checked(() => readList(call.body)),
        (query) => Effect.map(page(call, query), answerPage)
      )
    ),
    route("updateConsumerGroup", (call) =>
      Effect.flatMap(
        checked(() => readUpdate(call.body)),
        ({ change, choice, name }) =>
          Effect.map(
            counting(call, name, choice, () => groupsOf(call).change(name, change, choice)),
            answer
          )
      )
    ),
    route("deleteConsumerGroup", (call) =>
      Effect.flatMap(
        checked(() => choiceRequest(call.body)),
        ({ name, ...choice }) => Effect.as(groupsOf(call).delete(name, filled(choice)), json({}))
      )
    )
  ]
}

const mayCount = ({ caller, environment }: Call, pattern: string): boolean =>
  caller?.isNotDenied("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern)) ?? true

const answer = (group: ConsumerGroup): Reply => json(encodeGroup(group))

const answerPage = ({ groups, nextCursor, totalCount }: ConsumerGroupPage): Reply =>
  json({
    ...(groups.length === 0 ? {} : { groups: groups.map(encodeGroup) }),
    ...(nextCursor === undefined ? {} : { nextCursor }),
    ...(totalCount === 0 ? {} : { totalCount })
  })

/** Empty is how some clients say that they give none. */
const filled = <A extends { readonly [name: string]: string | undefined }>(
  texts: A
): { [K in keyof A]?: string } =>
  // what is left has just these names, and texts
  Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== undefined && text !== "")) as never

const choiceIn = (query: URLSearchParams) =>
  filled({
    namespace: query.get("namespace") ?? undefined,
    pattern: query.get("pattern") ?? undefined
  })

const choiceRequest = lenient(Schemas.ConsumerGroupRequest, "Consumer group")
const createRequest = lenient(Schemas.CreateConsumerGroupRequest, "Consumer group")
const changeRequest = lenient(Schemas.UpdateConsumerGroupRequest, "Consumer group")
const pauseRequest = lenient(Schemas.PauseConsumerGroupRequest, "Pause")
const listRequest = lenient(Schemas.ListConsumerGroupsRequest, "Consumer groups")
const connectRequest = lenient(Schemas.ConnectConsumerGroupConfig, "Consumer group")
const connectUpdate = lenient(Schemas.ConnectUpdateConsumerGroupRequest, "UpdateConsumerGroup")

const readPause = (body: unknown) => filled(pauseRequest(body ?? {}))

const readList = (given: unknown) => {
  const { cursor, limit, name, namespace, status } = listRequest(given)
  const word = decodeWord(statusWords, status)
  if (limit !== undefined && limit < 0) throw new ValidationError("The limit must not be negative")
  return {
    ...filled({ cursor, name, namespace }),
    limit: limit || PAGE,
    // the engine says so when it is none
    ...(word === undefined ? {} : { status: word as ConsumerGroupStatus | "deleted" })
  }
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** What is `null` is to be as if nobody had said anything. */
const readChange = (body: unknown): ConsumerGroupUpdate => {
  const given = isObject(body) ? body : {}
  const nulls = Object.keys(Schemas.UpdateConsumerGroupRequest.fields).filter(
    (name) => given[name] === null || given[snake(name)] === null
  )
  // the engine checks the words
  return { ...changeRequest(body), ...Object.fromEntries(nulls.map((name) => [name, null])) } as never
}

type ConnectConfig = typeof Schemas.ConnectConsumerGroupConfig.Type

/** A group as `PubSubService` has it; zero and empty are how it says nothing, but where zero means something. */
const settingsIn = (group: Omit<ConnectConfig, "name" | "pattern" | "namespace">) => {
  const { buffer, filterExpr, maxInflight, maxRedeliveries, metadata, redeliverDelayMs } = group
  const settings = {
    filter: filterExpr || undefined,
    ackMode: decodeWord(ackModeWords, group.ackMode),
    backpressure: decodeWord(backpressureWords, group.backpressure),
    buffer,
    maxInflight: maxInflight || undefined,
    maxRedeliveries,
    redeliverDelayMs,
    metadata
  }
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined))
}

const configOf = ({ name, namespace, pattern, ...group }: ConnectConfig): ConsumerGroupConfig =>
  // the engine checks the words
  ({ name, pattern, ...filled({ namespace }), ...settingsIn(group) }) as ConsumerGroupConfig

/** By the names of fields in a mask, in either spelling. */
const maskable: ReadonlyMap<string, string> = new Map(
  Object.entries({
    filterExpr: "filter",
    ackMode: "ackMode",
    backpressure: "backpressure",
    buffer: "buffer",
    maxInflight: "maxInflight",
    maxRedeliveries: "maxRedeliveries",
    redeliverDelayMs: "redeliverDelayMs",
    metadata: "metadata",
    status: "status"
  }).flatMap(([field, name]) => [
    [field, name],
    [snake(field), name]
  ])
)

const readUpdate = (body: unknown) => {
  const { by, group, reason, updateMask } = connectUpdate(body)
  const { name, namespace, pattern, status, ...rest } = group
  const given: { readonly [name: string]: unknown } = {
    ...settingsIn(rest),
    status: decodeWord(statusWords, status)
  }
  const asked = pathsOf(updateMask)?.map((path) => {
    const name = maskable.get(path)
    if (name !== undefined) return name
    throw new ValidationError(
      `UpdateConsumerGroup: \`updateMask\` names ${JSON.stringify(path.slice(0, 64))}, which cannot be changed`
    )
  })
  const names = asked ?? Object.keys(given)
  const settings = names
    .filter((name) => name !== "status")
    .map((name) => [name, given[name] ?? null] as const)
  if (given.status === "deleted") {
    throw new ValidationError("UpdateConsumerGroup: call DeleteConsumerGroup to delete a consumer group")
  }
  return {
    name,
    change: {
      // the engine checks both
      ...(settings.length === 0 ? {} : { settings: Object.fromEntries(settings) as ConsumerGroupUpdate }),
      ...(names.includes("status") && given.status !== undefined
        ? { status: given.status as ConsumerGroupStatus }
        : {})
    },
    choice: filled({ namespace, pattern, by, reason })
  }
}

/** A field mask is text with commas in JSON; some send its message. */
const pathsOf = (mask: unknown): ReadonlyArray<string> | undefined => {
  const paths = isObject(mask) && Array.isArray(mask.paths) ? mask.paths.join() : mask
  if (paths === undefined || paths === null || paths === "") return undefined
  if (typeof paths !== "string") {
    throw new ValidationError(
      "UpdateConsumerGroup: `updateMask` must be names of fields, separated by commas"
    )
  }
  return paths.split(",").map((path) => path.trim())
}
