/** Consumer groups over HTTP: REST routes for operators, and the calls of `PubSubService` (Connect). */
import * as Effect from "effect/Effect"
import type { ConsumerGroup, ConsumerGroupConfig, ConsumerGroupUpdate } from "../../Client/ConsumerGroups.ts"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { membersOf, otherCase } from "../../Protocol/Codec.ts"
import {
  ConnectSettings,
  type ConnectSettings as Settings,
  type ConnectUpdate,
  type GroupPage,
  ListGroups,
  callSpecs
} from "../../Protocol/ConsumerGroups.ts"
import { decoder } from "../../Protocol/ServerCodec.ts"
import { checkGroupNotDenied } from "../../Engine/Access/SubscriptionGuard.ts"
import { reachOf } from "../../Engine/Access/SubscriptionReach.ts"
import { type EngineConsumerGroups, GROUPS_PAGE } from "../../Engine/PubSub/ConsumerGroups.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { type Call, readNumber, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, bodyRoute } from "./CallRoute.ts"

export const consumerGroupRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const groupsOf = (call: Call): EngineConsumerGroups => engine.consumerGroups.in(call.environment)

  /** Makes the answer about one group. The path has the name of the group, and the query has its namespace and pattern. */
  const answerAboutGroup =
    (
      control: (
        groups: EngineConsumerGroups,
        name: string,
        choice: { readonly namespace?: string; readonly pattern?: string }
      ) => Effect.Effect<ConsumerGroup, IronflowError>
    ) =>
    (call: Call): Effect.Effect<ConsumerGroup, IronflowError> => {
      const group = variable(call, "name")
      const choice = readChoice(call.query)
      return ifAuthorized(call, group, choice, () => control(groupsOf(call), group, choice))
    }

  const readPage = (
    call: Call,
    { status, ...query }: ReturnType<typeof toListQuery>
  ): Effect.Effect<GroupPage, IronflowError> =>
    // this engine keeps no groups that were deleted
    status === "deleted"
      ? Effect.succeed({ groups: [], totalCount: 0 })
      : Effect.map(groupsOf(call).page({ ...query, ...(status === undefined ? {} : { status }) }), (page) => {
          const groups = page.groups.filter(
            ({ name, pattern }) => call.shows(name) && mayCount(call, pattern)
          )
          return { ...page, groups, totalCount: page.totalCount - (page.groups.length - groups.length) }
        })

  /**
   * Runs `answer`, unless a policy denies the caller the events of the group's pattern: a response about a group says
   * how many of these events there are.
   */
  const ifAuthorized = <A>(
    call: Call,
    name: string,
    choice: { readonly namespace?: string; readonly pattern?: string },
    answer: () => Effect.Effect<A, IronflowError>
  ): Effect.Effect<A, IronflowError> =>
    (["subscription:read", "topic:read", "stream:read"] as const).some((action) =>
      call.caller?.isDenied(action)
    )
      ? Effect.flatMap(groupsOf(call).get(name, choice), ({ pattern }) =>
          Effect.andThen(
            checked(() => {
              if (call.caller !== undefined) checkGroupNotDenied(call.caller, call.environment, pattern)
            }),
            Effect.suspend(answer)
          )
        )
      : answer()

  /**
   * Fails when the caller may not subscribe to the pattern: through a group, the caller could count or read
   * the events of the pattern.
   */
  const checkSubscribing = (call: Call, pattern: string) =>
    checked(() => {
      if (call.caller === undefined) return
      call.caller.check("subscription:read", `subscription:${pattern}`, call.environment, reachOf(pattern))
      checkGroupNotDenied(call.caller, call.environment, pattern)
    })

  const create = (call: Call, config: ConsumerGroupConfig) =>
    Effect.andThen(checkSubscribing(call, config.pattern), groupsOf(call).create(config))

  return [
    answerRoute(callSpecs.restListConsumerGroups, (call) =>
      Effect.flatMap(
        checked(() => toListQuery(readList(Object.fromEntries(call.query)))),
        (query) => readPage(call, query)
      )
    ),
    bodyRoute(callSpecs.restCreateConsumerGroup, "Consumer group", (config, call) =>
      // the engine checks the values of `config`
      create(call, config as ConsumerGroupConfig)
    ),
    answerRoute(
      callSpecs.restGetConsumerGroup,
      answerAboutGroup((groups, name, choice) => groups.get(name, choice))
    ),
    bodyRoute(callSpecs.restUpdateConsumerGroup, "Consumer group", (change, call) =>
      // the engine checks the values of `change`
      answerAboutGroup((groups, name, choice) => groups.update(name, change as ConsumerGroupUpdate, choice))(
        call
      )
    ),
    bodyRoute(callSpecs.restPauseConsumerGroup, "Pause", (pause, call) =>
      answerAboutGroup((groups, name, choice) =>
        groups.pause(name, { ...choice, ...withoutEmptyTexts(pause) })
      )(call)
    ),
    answerRoute(
      callSpecs.restResumeConsumerGroup,
      answerAboutGroup((groups, name, choice) => groups.resume(name, choice))
    ),
    answerRoute(callSpecs.groupDeadLetters, (call) =>
      Effect.gen(function* () {
        const page = yield* checked(() => ({
          after: readNumber(call, "after", 0),
          limit: readNumber(call, "limit", 100)
        }))
        const name = variable(call, "name")
        const choice = readChoice(call.query)
        const groups = groupsOf(call)
        const { pattern } = yield* groups.get(name, choice)
        yield* checkSubscribing(call, pattern)
        return { deadLetters: yield* groups.deadLetters(name, { ...choice, ...page }) }
      })
    ),
    bodyRoute(callSpecs.retryGroupDeadLetters, "Retry", ({ position }, call) => {
      const name = variable(call, "name")
      const choice = readChoice(call.query)
      return Effect.map(
        ifAuthorized(call, name, choice, () =>
          position === undefined
            ? groupsOf(call).retryDeadLetters(name, choice)
            : Effect.as(groupsOf(call).retryDeadLetter(name, position, choice), 1)
        ),
        (retrying) => ({ retrying })
      )
    }),
    answerRoute(callSpecs.restDeleteConsumerGroup, (call) =>
      Effect.as(groupsOf(call).delete(variable(call, "name"), readChoice(call.query)), undefined)
    ),

    bodyRoute(
      callSpecs.createConsumerGroup,
      "Consumer group",
      ({ name, namespace, pattern, ...settings }, call) =>
        create(call, { name, pattern, ...withoutEmptyTexts({ namespace }), ...withoutZeros(settings) })
    ),
    bodyRoute(callSpecs.getConsumerGroup, "Consumer group", ({ name, ...choice }, call) =>
      ifAuthorized(call, name, withoutEmptyTexts(choice), () =>
        groupsOf(call).get(name, withoutEmptyTexts(choice))
      )
    ),
    bodyRoute(callSpecs.listConsumerGroups, "Consumer groups", (query, call) =>
      Effect.flatMap(
        checked(() => toListQuery(query)),
        (query) => readPage(call, query)
      )
    ),
    bodyRoute(callSpecs.updateConsumerGroup, "UpdateConsumerGroup", (update, call) =>
      Effect.flatMap(
        checked(() => readChange(update)),
        ({ change, choice, name }) =>
          ifAuthorized(call, name, choice, () => groupsOf(call).change(name, change, choice))
      )
    ),
    bodyRoute(callSpecs.deleteConsumerGroup, "Consumer group", ({ name, ...choice }, call) =>
      Effect.as(groupsOf(call).delete(name, withoutEmptyTexts(choice)), {})
    )
  ]
}

const mayCount = ({ caller, environment }: Call, pattern: string): boolean => {
  try {
    if (caller !== undefined) checkGroupNotDenied(caller, environment, pattern)
    return true
  } catch {
    return false
  }
}

/** Leaves out empty strings, which some clients send for no value. */
const withoutEmptyTexts = <A extends { readonly [name: string]: string | undefined }>(
  texts: A
): { [K in keyof A]?: string } =>
  // the filter keeps only members of `texts` that have a string
  Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== undefined && text !== "")) as never

const readChoice = (query: URLSearchParams) =>
  withoutEmptyTexts({
    namespace: query.get("namespace") ?? undefined,
    pattern: query.get("pattern") ?? undefined
  })

const readList = decoder(ListGroups, "Consumer groups")

const toListQuery = ({ limit, status, ...query }: ReturnType<typeof readList>) => {
  if (limit !== undefined && limit < 0)
    throw new ValidationError(`The limit must be an integer, at least 0, got ${limit}`)
  return {
    ...withoutEmptyTexts(query),
    limit: limit || GROUPS_PAGE,
    ...(status === undefined ? {} : { status })
  }
}

/**
 * Leaves out an empty `filter` and a `maxInflight` of 0, by which clients of `PubSubService` mean no value. Zero is a
 * value of its own for the other settings.
 */
const withoutZeros = ({ filter, maxInflight, ...settings }: Settings): Settings => ({
  ...settings,
  ...(filter ? { filter } : {}),
  ...(maxInflight ? { maxInflight } : {})
})

/** The name of each setting by its name in a field mask, which may have either spelling (`max_inflight`, `maxInflight`). */
const settingsByMaskPath: ReadonlyMap<string, string> = new Map([
  ["status", "status"],
  ...Object.entries(membersOf(ConnectSettings)).flatMap(([name, { wireName = name }]) =>
    [wireName, otherCase(wireName) ?? wireName].map((field) => [field, name] as const)
  )
])

const readChange = ({ by, group, reason, updateMask }: ConnectUpdate) => {
  const { name, namespace, pattern, status, ...settings } = group
  const newSettings: { readonly [name: string]: unknown } = {
    ...withoutZeros(settings),
    ...(status === undefined ? {} : { status })
  }
  const maskedNames = pathsOf(updateMask)?.map((path) => {
    const name = settingsByMaskPath.get(path)
    if (name !== undefined) return name
    throw new ValidationError(
      `UpdateConsumerGroup: \`updateMask\` names ${JSON.stringify(path.slice(0, 64))}, which cannot be changed`
    )
  })
  const names = maskedNames ?? Object.keys(newSettings)
  const changed = names
    .filter((name) => name !== "status")
    .map((name) => [name, newSettings[name] ?? null] as const)
  if (status === "deleted") {
    throw new ValidationError("UpdateConsumerGroup: call DeleteConsumerGroup to delete a consumer group")
  }
  return {
    name,
    change: {
      // the engine checks the settings and the status
      ...(changed.length === 0 ? {} : { settings: Object.fromEntries(changed) as ConsumerGroupUpdate }),
      ...(names.includes("status") && status !== undefined ? { status } : {})
    },
    choice: withoutEmptyTexts({ namespace, pattern, by, reason })
  }
}

/**
 * The paths of a field mask; `undefined` without a mask. In JSON a mask is a comma-separated string; some
 * clients send an object with a list `paths` instead.
 */
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
