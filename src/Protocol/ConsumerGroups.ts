/** Consumer groups: their messages and calls. Members join by subscribing. */
import { ConsumerGroupExistsError, ConsumerGroupNotFoundError, InvalidStateError } from "../Errors.ts"
import {
  oneOfList,
  nonNullJson,
  merge,
  digits,
  camelOrSnake,
  exact,
  fields,
  nonEmptyText,
  flag,
  integer,
  json,
  lenientList,
  list,
  nullable,
  object,
  omittedWhen,
  oneOf,
  optional,
  orElse,
  snaked,
  struct,
  text,
  withWireName,
  word,
  type Word
} from "./Codec.ts"
import { each, inBody, inPath, operation, callSpec } from "./CallSpec.ts"
import {
  type AckMode,
  type BackpressureMode,
  ackModes,
  backpressureModes,
  type BufferConfig,
  type GroupSettings
} from "./Subscriptions.ts"

/** Whether a group delivers events: a paused one does not. */
export type ConsumerGroupStatus = "active" | "paused"

/** A consumer group to create. Members use its settings unless they request their own. */
export interface ConsumerGroupConfig extends Partial<GroupSettings> {
  /** Name of the group; members subscribe with it as `consumerGroup`. */
  readonly name: string
  /**
   * Pattern of the events, such as `events:order.*` or `topic:news`. Without a prefix it matches events and messages of
   * topics.
   */
  readonly pattern: string
  /**
   * Namespace of the group; `default` by default. Several groups in a namespace may have the same name if their
   * patterns differ.
   */
  readonly namespace?: string
  /** CEL expression over `event`. Members cannot use another filter. */
  readonly filter?: string
  /** Metadata for people, which the engine only stores; at most 16 KiB as JSON. */
  readonly metadata?: { readonly [name: string]: unknown }
}

/** Changes of a group. A setting that is absent is not changed; `null` resets a setting to its default. */
export type ConsumerGroupUpdate = {
  readonly [Name in Exclude<keyof ConsumerGroupConfig, "name" | "namespace" | "pattern">]?:
    ConsumerGroupConfig[Name] | null
}

/** A connected member of a group. */
export interface ConsumerGroupMember {
  /** Id of the member's connection and subscription. The id is a new one after each reconnection. */
  readonly id: string
  /** Who settles the events of the member: its client (`auto`), or its code by a call (`manual`). */
  readonly ackMode: AckMode
  /** Number of events that the member holds. */
  readonly inFlight: number
  /** Whether the member's connection is too slow. It then gets no more events until it has caught up. */
  readonly isSlow: boolean
  /** When the member joined, as an ISO string. */
  readonly joinedAt: string
}

/** A consumer group: its position, status and settings. Times are ISO strings. */
export interface ConsumerGroup extends GroupSettings {
  /** Id of the group. */
  readonly id: string
  /** The namespace of the group. */
  readonly namespace: string
  /** Name of the group. */
  readonly name: string
  /** Pattern of its events. */
  readonly pattern: string
  /** CEL expression over `event` that selects among the events of the pattern; absent when there is none. */
  readonly filter?: string
  /** Whether the group delivers events. */
  readonly status: ConsumerGroupStatus
  /** Explains the status of the group, as a sentence. */
  readonly message: string
  /** Position in the log up to which everything was delivered or skipped. */
  readonly position: number
  /** Number of events after `position` that match the pattern, whether they pass the filter or not. */
  readonly lag: number
  /** Number of events that were delivered and not yet settled. */
  readonly inFlight: number
  /** Number of events that wait for redelivery, after a failure or the loss of a member. */
  readonly retrying: number
  /** When the first of the events in `retrying` is redelivered. */
  readonly nextRetryAt?: string
  /** Number of dead letters since the group was created: events that failed too often or were settled by `term`. */
  readonly givenUp: number
  /** Number of dead letters that are kept and can be retried: at most the newest 1000. */
  readonly deadLetters: number
  /** Number of connected members. */
  readonly memberCount: number
  /** The connected members. */
  readonly members: ReadonlyArray<ConsumerGroupMember>
  /** The metadata of the group. */
  readonly metadata?: { readonly [name: string]: unknown }
  /** Who paused the group; absent unless it is paused. */
  readonly pausedBy?: string
  /** When it was paused. */
  readonly pausedAt?: string
  /** Why it was paused. */
  readonly pauseReason?: string
  /** When it was created. */
  readonly createdAt: string
  /** When a client last created, updated, paused or resumed it. */
  readonly updatedAt: string
  /**
   * When a member last joined or was last seen, or when the group was last resumed. The engine looks once an hour
   * whether the group has members.
   */
  readonly usedAt: string
  /**
   * When the group will be deleted if no member joins; absent while it has members. Groups that a client has created
   * or updated are kept, and so is a paused group until it is resumed.
   */
  readonly expiresAt?: string
}

/** An event that a group has given up. */
export interface ConsumerGroupDeadLetter {
  /** Position of the event in the log; what `retryDeadLetter` takes. */
  readonly position: number
  /** The event. Its `timestamp` is an ISO string. */
  readonly event: {
    readonly id: string
    readonly name: string
    readonly version: number
    readonly data: unknown
    readonly timestamp: string
  }
  /** The reason reported by the last member that held the event; absent if that member has reported none. */
  readonly reason?: string
  /** Number of deliveries. */
  readonly attempts: number
  /** When it became a dead letter, as an ISO string. */
  readonly failedAt: string
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

const Buffer = fields<BufferConfig>({ maxBytes: exact(optional(integer)) })
const Members = lenientList(
  fields<ConsumerGroupMember>({
    id: orElse(text, ""),
    ackMode: orElse(oneOfList(ackModes), "auto"),
    inFlight: orElse(integer, 0),
    isSlow: orElse(flag, false),
    joinedAt: orElse(text, "")
  })
)
const Group = fields<ConsumerGroup>({
  id: text,
  namespace: text,
  name: text,
  pattern: text,
  filter: optional(text),
  status: oneOf("active", "paused"),
  message: text,
  position: integer,
  lag: integer,
  inFlight: integer,
  retrying: integer,
  nextRetryAt: optional(text),
  givenUp: integer,
  deadLetters: integer,
  memberCount: integer,
  members: Members,
  ackMode: oneOfList(ackModes),
  backpressure: oneOfList(backpressureModes),
  buffer: Buffer,
  maxInflight: integer,
  maxRedeliveries: integer,
  redeliverDelayMs: integer,
  metadata: optional(object),
  pausedBy: optional(text),
  pausedAt: optional(text),
  pauseReason: optional(text),
  createdAt: text,
  updatedAt: text,
  usedAt: text,
  expiresAt: optional(text)
})
export interface GroupPage {
  readonly groups: ReadonlyArray<ConsumerGroup>
  /** Cursor of the next page; absent on the last page. */
  readonly nextCursor?: string
  readonly totalCount: number
}
const Groups = fields<GroupPage>({ groups: list(Group), nextCursor: optional(text), totalCount: integer })
const DeadLetters = snaked<{ deadLetters: Array<ConsumerGroupDeadLetter> }>({
  deadLetters: list(nonNullJson<ConsumerGroupDeadLetter>())
})
const Retrying = struct({ retrying: orElse(integer, 0) })

const CreateGroup = struct({
  name: text,
  pattern: text,
  namespace: optional(text),
  filter: optional(text),
  ackMode: optional(text),
  backpressure: optional(text),
  buffer: optional(Buffer),
  maxInflight: optional(integer),
  maxRedeliveries: optional(integer),
  redeliverDelayMs: optional(integer),
  metadata: optional(object)
})
/** Changes; `null` resets a setting to its default. */
const UpdateGroup = struct({
  filter: nullable(text),
  ackMode: nullable(text),
  backpressure: nullable(text),
  buffer: nullable(Buffer),
  maxInflight: nullable(integer),
  maxRedeliveries: nullable(integer),
  redeliverDelayMs: nullable(integer),
  metadata: nullable(object)
})
const PauseGroup = struct({ by: optional(text), reason: optional(text) })
const RetryLetters = struct({ position: optional(integer) })

export const AckModeWord: Word<AckMode> = word("ACK_MODE", "auto", "manual")
export const BackpressureWord: Word<BackpressureMode> = word("BACKPRESSURE_MODE", "drop", "block", "buffer")
export const StatusWord: Word<ConsumerGroupStatus | "deleted"> = word(
  "CONSUMER_GROUP_STATUS",
  "active",
  "paused",
  "deleted"
)

const textOrEmpty = orElse(nonEmptyText, "")
const numberUnlessZero = omittedWhen(0, integer)
/**
 * A group over ConnectRPC. `filter` is called `filterExpr` there; most numbers, and `members`, are left out when they are 0
 * or empty.
 */
export const ConnectGroup = camelOrSnake(
  fields<ConsumerGroup>({
    id: textOrEmpty,
    namespace: orElse(nonEmptyText, "default"),
    name: text,
    pattern: textOrEmpty,
    message: textOrEmpty,
    inFlight: numberUnlessZero,
    retrying: numberUnlessZero,
    nextRetryAt: optional(nonEmptyText),
    givenUp: numberUnlessZero,
    deadLetters: numberUnlessZero,
    memberCount: numberUnlessZero,
    buffer: orElse(Buffer, {}),
    maxInflight: numberUnlessZero,
    maxRedeliveries: numberUnlessZero,
    redeliverDelayMs: numberUnlessZero,
    metadata: optional(object),
    pausedBy: optional(nonEmptyText),
    pausedAt: optional(nonEmptyText),
    pauseReason: optional(nonEmptyText),
    createdAt: textOrEmpty,
    updatedAt: textOrEmpty,
    usedAt: textOrEmpty,
    expiresAt: optional(nonEmptyText),
    filter: withWireName("filterExpr", optional(nonEmptyText)),
    ackMode: orElse(AckModeWord, "auto"),
    backpressure: orElse(BackpressureWord, "buffer"),
    status: orElse(word("CONSUMER_GROUP_STATUS", "active", "paused"), "active"),
    position: orElse(digits, 0),
    lag: orElse(digits, 0),
    members: omittedWhen([], Members)
  })
)
const ConnectGroups = camelOrSnake(
  fields<GroupPage>({
    groups: omittedWhen([], lenientList(ConnectGroup)),
    nextCursor: optional(nonEmptyText),
    totalCount: numberUnlessZero
  })
)
export interface ConnectSettings extends Partial<GroupSettings> {
  readonly filter?: string
  readonly metadata?: { readonly [name: string]: unknown }
}
/**
 * The settings of a group over ConnectRPC. Enums are read in any spelling; whether their values exist is checked later, by
 * the engine.
 */
export const ConnectSettings = fields<ConnectSettings>({
  filter: withWireName("filterExpr", optional(text)),
  ackMode: optional(AckModeWord),
  backpressure: optional(BackpressureWord),
  buffer: optional(Buffer),
  maxInflight: optional(integer),
  maxRedeliveries: optional(integer),
  redeliverDelayMs: optional(integer),
  metadata: optional(object)
})
/** Identifies a group. */
const GroupAddress = struct({
  name: text,
  namespace: optional(text),
  pattern: optional(text)
})
const ConnectNew = merge(
  struct({
    name: text,
    pattern: text,
    namespace: optional(text)
  }),
  ConnectSettings
)
export interface ConnectUpdate {
  readonly group: {
    readonly name: string
    readonly namespace?: string
    readonly pattern?: string
  } & ConnectSettings & {
      readonly status?: ConsumerGroupStatus | "deleted"
    }
  readonly updateMask?: unknown
  readonly by?: string
  readonly reason?: string
}
/** `by` and `reason` apply when the status becomes paused. */
const ConnectUpdate = fields<ConnectUpdate>({
  group: merge(merge(GroupAddress, ConnectSettings), struct({ status: optional(StatusWord) })),
  updateMask: optional(json),
  by: optional(text),
  reason: optional(text)
})
export const ListGroups = struct({
  namespace: optional(text),
  name: optional(text),
  status: optional(StatusWord),
  limit: optional(integer),
  cursor: optional(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const createConsumerGroup = operation("PubSubService/CreateConsumerGroup", { answer: ConnectGroup })
export const getConsumerGroup = operation("PubSubService/GetConsumerGroup", {
  answer: ConnectGroup,
  repeats: true
})
export const listConsumerGroups = operation("PubSubService/ListConsumerGroups", {
  answer: ConnectGroups,
  repeats: true
})
export const updateConsumerGroup = operation("PubSubService/UpdateConsumerGroup", { answer: ConnectGroup })
export const deleteConsumerGroup = operation("PubSubService/DeleteConsumerGroup", {
  answer: nonNullJson<object>()
})
export const groupDeadLetters = operation("GET /api/v1/consumer-groups/:name/dead-letters", {
  answer: DeadLetters,
  onlyOurEngine: true
})
export const retryGroupDeadLetters = operation("POST /api/v1/consumer-groups/:name/dead-letters/retry", {
  answer: Retrying,
  onlyOurEngine: true
})

const noGroup = { 404: ConsumerGroupNotFoundError } as const
const exists = { 409: ConsumerGroupExistsError } as const

export const callSpecs = {
  /** Lists groups in order of creation, always in pages. */
  restListConsumerGroups: callSpec("GET /api/v1/consumer-groups", each("subscription:read", "group"), {
    query: ["namespace", "name", "status", "limit", "cursor"],
    answer: Groups
  }),
  /** Creates a group, before any member joins. It receives the events that are stored from now on, and is kept until it is deleted. */
  restCreateConsumerGroup: callSpec(
    "POST /api/v1/consumer-groups",
    inBody("subscription:manage", "group", "name"),
    { body: CreateGroup, answer: Group, errors: exists }
  ),
  /** Returns a group. `namespace` is `default` by default; `pattern` is needed only when several groups in it have the name. */
  restGetConsumerGroup: callSpec(
    "GET /api/v1/consumer-groups/:name",
    inPath("subscription:read", "group", "name"),
    { query: ["namespace", "pattern"], answer: Group, errors: noGroup }
  ),
  /** Changes the settings of a group. They apply to its connected members too. */
  restUpdateConsumerGroup: callSpec(
    "PATCH /api/v1/consumer-groups/:name",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], body: UpdateGroup, answer: Group, errors: noGroup }
  ),
  /** Deletes a group and its delivery state. */
  restDeleteConsumerGroup: callSpec(
    "DELETE /api/v1/consumer-groups/:name",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], errors: noGroup }
  ),
  /** Stops the delivery of a group. Its members may still settle the events that they hold. */
  restPauseConsumerGroup: callSpec(
    "POST /api/v1/consumer-groups/:name/pause",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], body: PauseGroup, answer: Group, errors: noGroup }
  ),
  /** Resumes the delivery of a group where it stopped. */
  restResumeConsumerGroup: callSpec(
    "POST /api/v1/consumer-groups/:name/resume",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], answer: Group, errors: noGroup }
  ),
  /** Lists the dead letters of a group by their position in the log; `after` is such a position. */
  groupDeadLetters: callSpec(groupDeadLetters, inPath("subscription:read", "group", "name"), {
    query: ["namespace", "pattern", "after", "limit"],
    errors: noGroup
  }),
  /** Delivers the dead letter at `position` again; without `position`, all dead letters of the group. */
  retryGroupDeadLetters: callSpec(retryGroupDeadLetters, inPath("subscription:manage", "group", "name"), {
    query: ["namespace", "pattern"],
    body: RetryLetters,
    errors: { 404: ConsumerGroupNotFoundError, 409: InvalidStateError }
  }),

  /** Creates a group, before any member joins. It receives the events that are stored from now on, and is kept until it is deleted. */
  createConsumerGroup: callSpec(createConsumerGroup, inBody("subscription:manage", "group", "name"), {
    body: ConnectNew,
    errors: exists
  }),
  /** Returns a group. `namespace` is `default` by default; `pattern` is needed only when several groups in it have the name. */
  getConsumerGroup: callSpec(getConsumerGroup, inBody("subscription:read", "group", "name"), {
    body: GroupAddress,
    errors: noGroup
  }),
  /** Lists groups in order of creation, always in pages. */
  listConsumerGroups: callSpec(listConsumerGroups, each("subscription:read", "group"), { body: ListGroups }),
  /** Changes the settings and the status that `updateMask` names; without `updateMask`, all that the request contains. */
  updateConsumerGroup: callSpec(
    updateConsumerGroup,
    {
      action: "subscription:manage",
      resource: { from: "body", kind: "group", members: ["name"], in: "group" }
    },
    { body: ConnectUpdate, errors: noGroup }
  ),
  /** Deletes a group and its delivery state. */
  deleteConsumerGroup: callSpec(deleteConsumerGroup, inBody("subscription:manage", "group", "name"), {
    body: GroupAddress,
    errors: noGroup
  })
}
