/** Manages consumer groups. Combines what the store knows of a group with what the engine knows of the group's members. */
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import {
  type ConsumerGroup,
  type ConsumerGroupConfig,
  type ConsumerGroupDeadLetter,
  type ConsumerGroupOptions,
  type ConsumerGroupsApi,
  type ConsumerGroupStatus,
  type ConsumerGroupUpdate,
  type ListConsumerGroupsOptions,
  MAX_METADATA,
  MAX_REASON,
  type PauseConsumerGroupOptions
} from "../../Client/ConsumerGroups.ts"
import { type EngineError, InvalidStateError, LimitExceededError, ValidationError } from "../../Errors.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { compileExpression } from "../../Expression.ts"
import { decodeJson, isObject } from "../../Json.ts"
import * as Limits from "../../Limits.ts"
import { encodeMetadata } from "../../Metadata.ts"
import type { GroupPage } from "../../Protocol/ConsumerGroups.ts"
import { show } from "../../Show.ts"
import { yieldFirst } from "../Yielding.ts"
import { GROUP_RETENTION_MS } from "./GroupSweep.ts"
import type { GroupChange, GroupChoice, GroupDeadLetter, GroupDefinition, GroupInfo } from "./GroupRecords.ts"
import { Store, type StoreService, timeOf } from "../Store/Store.ts"
import type { Member } from "./Group.ts"
import { oneOf, readSettings, settingsOf } from "./SubscriptionSettings.ts"
import { Subscriptions, type SubscriptionsService } from "./Subscriptions.ts"
import { checkGroupTarget, readTarget } from "./Target.ts"
import * as GroupInspection from "./GroupInspection.ts"
import * as GroupDeadLetters from "./GroupDeadLetters.ts"

/** A change of settings, status or both. */
interface ConsumerGroupChange {
  readonly settings?: ConsumerGroupUpdate
  readonly status?: ConsumerGroupStatus
}

export interface EngineConsumerGroups extends Raw<ConsumerGroupsApi<EffectKind>, EngineError> {
  /** A page of the list, with at most {@link GROUPS_PAGE} groups. */
  readonly page: (
    options: ListConsumerGroupsOptions & { readonly cursor?: string; readonly limit: number }
  ) => Effect.Effect<GroupPage, EngineError>
  readonly change: (
    name: string,
    change: ConsumerGroupChange,
    options?: PauseConsumerGroupOptions
  ) => Effect.Effect<ConsumerGroup, EngineError>
}

/** Maximum number of groups on one page. It is small because reading a group takes long: the lag of the group is counted. */
export const GROUPS_PAGE = 50

export class ConsumerGroups extends Context.Service<
  ConsumerGroups,
  {
    /** The management of the consumer groups of one environment. */
    readonly in: (environment: string) => EngineConsumerGroups
  }
>()("@ironflow/node/Engine/ConsumerGroups") {}

export const layer: Layer.Layer<ConsumerGroups, never, Store | Subscriptions> = Layer.effect(
  ConsumerGroups,
  Effect.gen(function* () {
    const store = yield* Store
    const subscriptions = yield* Subscriptions
    return { in: (environment) => make(store, subscriptions, environment) }
  })
)

const make = (
  store: StoreService,
  subscriptions: SubscriptionsService,
  environment: string
): EngineConsumerGroups => {
  const describeGroup = (
    found: Effect.Effect<GroupInfo, EngineError>
  ): Effect.Effect<ConsumerGroup, EngineError> =>
    Effect.flatMap(found, (info) =>
      Effect.map(timeOf(store), (now) => toGroup(info, subscriptions.membersOf(info.key), now))
    )

  const toChoice = (
    name: string,
    { namespace = "default", pattern }: ConsumerGroupOptions = {}
  ): GroupChoice => ({
    environment,
    name: Limits.checkName("consumer group", name),
    namespace: Limits.checkName("namespace", namespace),
    ...(pattern === undefined ? {} : { pattern: checkPattern(pattern) })
  })

  const page: EngineConsumerGroups["page"] = ({ cursor = "", limit, name, namespace, status }) =>
    Effect.gen(function* () {
      const query = yield* checked(() => {
        if (!/^\d{0,15}$/.test(cursor)) {
          throw new ValidationError(
            `Cursor ${show(cursor)} is not one that a list of consumer groups returned: pass the nextCursor of the previous page`
          )
        }
        if (status !== undefined) oneOf("status", ["active", "paused"], status)
        return {
          environment,
          after: Number(cursor),
          limit: Math.min(limit, GROUPS_PAGE),
          ...(namespace === undefined ? {} : { namespace: Limits.checkName("namespace", namespace) }),
          ...(name === undefined ? {} : { name: Limits.checkName("consumer group", name) }),
          ...(status === undefined ? {} : { isPaused: status === "paused" })
        }
      })
      const found = yield* yieldFirst(GroupInspection.listGroups(store, query))
      const now = yield* timeOf(store)
      return {
        groups: found.groups.map((info) => toGroup(info, subscriptions.membersOf(info.key), now)),
        ...(found.next === undefined ? {} : { nextCursor: String(found.next) }),
        totalCount: found.totalCount
      }
    })

  const change: EngineConsumerGroups["change"] = (name, given, options = {}) =>
    Effect.flatMap(
      checked(() => [toChoice(name, options), readChange(given, options)] as const),
      ([choice, groupChange]) => describeGroup(store.write(GroupInspection.updateGroup(choice, groupChange)))
    )

  return {
    page,
    change,
    create: (config) =>
      Effect.flatMap(
        checked(() => readDefinition(environment, config)),
        (definition) => describeGroup(store.write(GroupInspection.createGroup(definition)))
      ),
    get: (name, options) =>
      Effect.flatMap(
        checked(() => toChoice(name, options)),
        (choice) => describeGroup(yieldFirst(store.read(GroupInspection.getGroup(choice))))
      ),
    list: (options = {}) =>
      Effect.gen(function* () {
        const all: Array<ConsumerGroup> = []
        let cursor: string | undefined = ""
        while (cursor !== undefined) {
          const found: GroupPage = yield* page({ ...options, cursor, limit: GROUPS_PAGE })
          all.push(...found.groups)
          cursor = found.nextCursor
        }
        return all
      }),
    update: (name, settings, options) => change(name, { settings }, options),
    pause: (name, options) => change(name, { status: "paused" }, options),
    resume: (name, options) => change(name, { status: "active" }, options),
    deadLetters: (name, { after = 0, limit = 100, ...options } = {}) =>
      Effect.flatMap(
        checked(() => {
          if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
            throw new ValidationError(
              `The limit of deadLetters must be an integer from 1 to 1000, got ${show(limit)}`
            )
          }
          if (!Number.isSafeInteger(after) || after < 0) {
            throw new ValidationError(
              `\`after\` of deadLetters must be a position: an integer, at least 0, got ${show(after)}`
            )
          }
          return toChoice(name, options)
        }),
        (choice) =>
          Effect.map(
            yieldFirst(store.read(GroupDeadLetters.listDeadLetters(choice, after, limit))),
            (letters) => letters.map(toDeadLetter)
          )
      ),
    retryDeadLetter: (name, position, options) => {
      const none = () =>
        Effect.fail(
          new InvalidStateError(
            `Consumer group "${name}" has no dead letter at position ${show(position)}: deadLetters() lists the existing ones`
          )
        )
      return Effect.flatMap(
        checked(() => toChoice(name, options)),
        (choice) =>
          Number.isSafeInteger(position)
            ? Effect.flatMap(store.write(GroupDeadLetters.retryDeadLetters(choice, position)), (count) =>
                count > 0 ? Effect.void : none()
              )
            : none()
      )
    },
    retryDeadLetters: (name, options) =>
      Effect.flatMap(
        checked(() => toChoice(name, options)),
        (choice) => store.write(GroupDeadLetters.retryDeadLetters(choice, undefined))
      ),
    delete: (name, options) =>
      Effect.flatMap(
        checked(() => toChoice(name, options)),
        (choice) => store.write(GroupInspection.deleteGroup(choice))
      )
  }
}

const readDefinition = (environment: string, config: ConsumerGroupConfig): GroupDefinition => {
  if (!isObject(config)) {
    throw new ValidationError(
      `The definition of a consumer group must be an object with a name and a pattern, got ${show(config)}`
    )
  }
  const { filter, metadata, name, namespace = "default", pattern } = config
  const target = checkGroupTarget(readTarget(pattern))
  const settings = readSettings(config, { mayBeNull: false })
  return {
    environment,
    namespace: Limits.checkName("namespace", namespace),
    name: Limits.checkName("consumer group", name),
    pattern,
    names: target.names,
    ...(target.kind === undefined ? {} : { kind: target.kind }),
    ...(filter === undefined ? {} : { filter: readFilter(filter) }),
    ...(metadata == null ? {} : { metadata: readMetadata(metadata) }),
    // `readSettings` has refused settings that are `null`
    settings: settings as GroupDefinition["settings"]
  }
}

const readChange = (
  { settings, status }: ConsumerGroupChange,
  { by = "a client", reason }: PauseConsumerGroupOptions
): GroupChange => {
  if (settings !== undefined && !isObject(settings)) {
    throw new ValidationError(`A change of a consumer group must be an object, got ${show(settings)}`)
  }
  const { filter, metadata } = settings ?? {}
  const changed = readSettings(settings ?? {}, { mayBeNull: true })
  return {
    ...(filter === undefined ? {} : { filter: filter === null ? null : readFilter(filter) }),
    ...(metadata === undefined ? {} : { metadata: metadata === null ? null : readMetadata(metadata) }),
    ...(Object.keys(changed).length === 0 ? {} : { settings: changed }),
    ...(status === undefined
      ? {}
      : {
          paused:
            oneOf("status", ["active", "paused"], status) === "active"
              ? null
              : {
                  by: readText("`by`", by),
                  ...(reason === undefined ? {} : { reason: readText("`reason`", reason) })
                }
        })
  }
}

const checkPattern = (pattern: string): string => {
  readTarget(pattern)
  return pattern
}

const readFilter = (filter: string): string => compileExpression(filter, ["event"]).text

const readMetadata = (metadata: unknown): string => {
  const what = "The metadata of a consumer group"
  return Limits.checkSize(what, encodeMetadata(what, metadata) ?? "{}", MAX_METADATA)
}

const readText = (what: string, text: unknown): string => {
  if (typeof text !== "string") {
    throw new ValidationError(`${what} of a pause must be a string, got ${show(text)}`)
  }
  if (text.length > MAX_REASON) throw new LimitExceededError(what, text.length, MAX_REASON, "characters")
  return text
}

const iso = (at: number): string => new Date(at).toISOString()

const toDeadLetter = ({
  at,
  event,
  reason,
  attempts,
  position
}: GroupDeadLetter): ConsumerGroupDeadLetter => ({
  position,
  event: {
    id: event.id,
    name: event.name,
    version: event.version,
    data: decodeJson(event.data),
    timestamp: iso(event.timestamp)
  },
  ...(reason === undefined ? {} : { reason }),
  attempts,
  failedAt: iso(at)
})

const toGroup = (info: GroupInfo, members: ReadonlyArray<Member>, now: number): ConsumerGroup => ({
  id: `grp_${info.key}`,
  namespace: info.namespace,
  name: info.name,
  pattern: info.pattern,
  ...(info.filter === undefined ? {} : { filter: info.filter }),
  status: info.isPaused ? "paused" : "active",
  message: explain(info, members, now),
  position: info.position,
  lag: info.lag,
  inFlight: info.inFlight,
  retrying: info.retrying,
  ...(info.nextRetryAt === undefined ? {} : { nextRetryAt: iso(info.nextRetryAt) }),
  givenUp: info.givenUp,
  deadLetters: info.deadLetters,
  memberCount: members.length,
  members: members.map((member) => ({
    id: member.holder,
    ackMode: member.options.ackMode,
    inFlight: member.inFlight,
    isSlow: member.isSlow,
    joinedAt: iso(member.options.joinedAt)
  })),
  ...settingsOf(info.settings),
  // only objects are stored as metadata
  ...(info.metadata === undefined ? {} : { metadata: JSON.parse(info.metadata) }),
  ...(info.paused === undefined
    ? {}
    : {
        pausedBy: info.paused.by,
        pausedAt: iso(info.paused.at),
        ...(info.paused.reason === undefined ? {} : { pauseReason: info.paused.reason })
      }),
  createdAt: iso(info.createdAt),
  updatedAt: iso(info.updatedAt),
  usedAt: iso(info.usedAt),
  ...(info.isConfigured || info.isPaused || members.length > 0
    ? {}
    : { expiresAt: iso(info.usedAt + GROUP_RETENTION_MS) })
})

const count = (n: number, one: string, many: string): string => (n === 1 ? `1 ${one}` : `${n} ${many}`)

/** Explains in a few sentences what the group is doing, and why. */
const explain = (info: GroupInfo, members: ReadonlyArray<Member>, now: number): string => {
  const { deadLetters } = info
  const deadLetterText =
    deadLetters === 0
      ? ""
      : ` ${count(deadLetters, "event is a dead letter", "events are dead letters")} until ${deadLetters === 1 ? "it is" : "they are"} retried.`
  return `${progressOf(info, members, now)}${deadLetterText}`
}

const progressOf = (info: GroupInfo, members: ReadonlyArray<Member>, now: number): string => {
  const { inFlight, lag, paused, retrying } = info
  const waiting = `${count(lag + retrying, "event waits", "events wait")}`
  if (paused !== undefined) {
    const reason = paused.reason === undefined ? "" : ` (${paused.reason})`
    return `Paused by ${paused.by} at ${iso(paused.at)}${reason}; ${waiting}.`
  }
  if (members.length === 0) {
    return `No member is connected; ${waiting}.${lag + retrying === 0 ? ` ${newestOf(info)}` : ""}`
  }
  const connected = count(members.length, "member is", "members are")
  if (lag > 0 || (info.nextRetryAt ?? Number.POSITIVE_INFINITY) <= now) {
    if (members.every((member) => member.isSilent)) {
      return `${connected} connected, but missed the ack deadline of an event and sent nothing since; ${waiting}.`
    }
    if (members.every((member) => member.credit === 0)) {
      const isOne = members.length === 1
      return members.every((member) => member.isSlow)
        ? `${connected} connected, but ${isOne ? "reads" : "read"} too slowly; ${waiting}.`
        : `${connected} connected, and can take no more before ${count(inFlight, "event", "events")} that ${isOne ? "it holds" : "they hold"} ${inFlight === 1 ? "is" : "are"} acked; ${waiting}.`
    }
    return `Events are being handed out to ${count(members.length, "member", "members")}; ${waiting}.`
  }
  const retryText =
    info.nextRetryAt === undefined
      ? ""
      : ` ${count(retrying, "event", "events")} that failed ${retrying === 1 ? "is" : "are"} delivered again, the first at ${iso(info.nextRetryAt)}.`
  const heldText =
    inFlight === 0 ? "" : ` ${count(inFlight, "event is", "events are")} delivered and not acked yet.`
  return `Up to date, with ${count(members.length, "member", "members")} connected.${retryText}${heldText} ${newestOf(info)}`
}

/** Describes the newest event, for a group that has nothing left to deliver. */
const newestOf = ({ beginning, filter, newest, pattern }: GroupInfo): string => {
  if (newest === undefined) return `Nothing in the log matches "${pattern}" so far.`
  const newestText = `The newest event that matches "${pattern}" is ${newest.name} at position ${newest.position}`
  if (beginning !== undefined && newest.position <= beginning) {
    return `${newestText}. The group gets no event up to position ${beginning}, where it began.`
  }
  if (!newest.passes) return `${newestText}, which the filter ${filter} leaves out.`
  return `${newestText}, of ${iso(newest.at)}.`
}
