/** Consumer groups: how they travel, and the calls about them. Members join by subscribing. */
import { ConsumerGroupExistsError, ConsumerGroupNotFoundError, InvalidStateError } from "../Errors.ts"
import {
  among,
  as,
  asItIs,
  both,
  digits,
  eitherCase,
  exact,
  fields,
  filled,
  flag,
  integer,
  json,
  list,
  nullable,
  object,
  oneOf,
  optional,
  orElse,
  snaked,
  some,
  struct,
  text,
  unless,
  word,
  type Word
} from "./Codec.ts"
import { each, inBody, inPath, operation, row } from "./Row.ts"
import {
  type AckMode,
  type BackpressureMode,
  ackModes,
  backpressureModes,
  type BufferConfig,
  type GroupSettings
} from "./Subscriptions.ts"

/** A paused group hands out nothing. */
export type ConsumerGroupStatus = "active" | "paused"

/** A group to be created. Whoever joins gets what it does not ask for itself. */
export interface ConsumerGroupConfig extends Partial<GroupSettings> {
  /** What members name as `consumerGroup`. */
  readonly name: string
  /** What they subscribe to: `events:order.*`, `topic:news`, or without a prefix for both. */
  readonly pattern: string
  /** Groups of one name in different namespaces are different; `default` by default. */
  readonly namespace?: string
  /** A CEL expression over `event`. A member may not ask for another one. */
  readonly filter?: string
  /** For people: the engine only keeps it. 16 KiB as JSON at most. */
  readonly metadata?: { readonly [name: string]: unknown }
}

/** What can be changed of a group: what is left out stays, `null` stands for the default. */
export type ConsumerGroupUpdate = {
  readonly [Name in Exclude<keyof ConsumerGroupConfig, "name" | "namespace" | "pattern">]?:
    ConsumerGroupConfig[Name] | null
}

/** Somebody who is connected and gets events of the group. */
export interface ConsumerGroupMember {
  /** Of its connection and subscription; another one after each reconnect. */
  readonly id: string
  /** Whether it settles events itself. */
  readonly ackMode: AckMode
  /** Events that it holds. */
  readonly inFlight: number
  /** Its connection does not keep up, and it gets no more until it does. */
  readonly isSlow: boolean
  /** ISO string. */
  readonly joinedAt: string
}

/** A group: how far it is, what it waits for, and what it goes by. Times are ISO strings. */
export interface ConsumerGroup extends GroupSettings {
  /** Id of the group. */
  readonly id: string
  /** The environment that it belongs to. */
  readonly namespace: string
  /** Name of the group. */
  readonly name: string
  /** Which events it gets. */
  readonly pattern: string
  /** A CEL expression over `event`, which leaves out of these; absent when there is none. */
  readonly filter?: string
  /** Whether it hands out events. */
  readonly status: ConsumerGroupStatus
  /** Why it gets what it gets, or gets nothing: a sentence for a person. */
  readonly message: string
  /** Position in the log: everything up to here has been handed out or passed over. */
  readonly position: number
  /** Events after that which fit the pattern; the filter may yet leave some out. */
  readonly lag: number
  /** Events that were handed out and are not settled. */
  readonly inFlight: number
  /** Events that have failed, or whose holder is gone, and that wait to be handed out again. */
  readonly retrying: number
  /** When the first of those is due. */
  readonly nextRetryAt?: string
  /** Events that have failed too often or were settled by `term`, since the group began. */
  readonly givenUp: number
  /** Those of them that are kept, and can be tried again: the newest 1000 at most. */
  readonly deadLetters: number
  /** Members that are connected now. */
  readonly memberCount: number
  /** Who is connected now. */
  readonly members: ReadonlyArray<ConsumerGroupMember>
  /** What it was created with, for people. */
  readonly metadata?: { readonly [name: string]: unknown }
  /** Who has paused it; absent unless it is paused. */
  readonly pausedBy?: string
  /** When it was paused. */
  readonly pausedAt?: string
  /** Why it was paused. */
  readonly pauseReason?: string
  /** When it was created. */
  readonly createdAt: string
  /** When somebody has last created, updated, paused or resumed it. */
  readonly updatedAt: string
  /** When a member has last joined, or was seen: members are looked for once an hour. */
  readonly usedAt: string
  /** When it will be deleted if nobody joins. Groups that were created, updated or are paused are kept. */
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
  /** Why, as the member said that had it last; absent when it did not. */
  readonly reason?: string
  /** How often it was handed out. */
  readonly attempts: number
  /** ISO string. */
  readonly failedAt: string
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

const Buffer = fields<BufferConfig>({ maxBytes: exact(optional(integer)) })
const Members = some(
  fields<ConsumerGroupMember>({
    id: orElse(text, ""),
    ackMode: orElse(among(ackModes), "auto"),
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
  ackMode: among(ackModes),
  backpressure: among(backpressureModes),
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
  /** After what to go on; absent at the end. */
  readonly nextCursor?: string
  readonly totalCount: number
}
const Groups = fields<GroupPage>({ groups: list(Group), nextCursor: optional(text), totalCount: integer })
const DeadLetters = snaked<{ deadLetters: Array<ConsumerGroupDeadLetter> }>({
  deadLetters: list(asItIs<ConsumerGroupDeadLetter>())
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
/** `null` takes a setting away. */
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

const none = orElse(filled, "")
const zero = unless(0, integer)
/** Over ConnectRPC: zero is not sent, and what legacy servers do not know has names of its own. */
export const ConnectGroup = eitherCase(
  fields<ConsumerGroup>({
    id: none,
    namespace: orElse(filled, "default"),
    name: text,
    pattern: none,
    message: none,
    inFlight: zero,
    retrying: zero,
    nextRetryAt: optional(filled),
    givenUp: zero,
    deadLetters: zero,
    memberCount: zero,
    buffer: orElse(Buffer, {}),
    maxInflight: zero,
    maxRedeliveries: zero,
    redeliverDelayMs: zero,
    metadata: optional(object),
    pausedBy: optional(filled),
    pausedAt: optional(filled),
    pauseReason: optional(filled),
    createdAt: none,
    updatedAt: none,
    usedAt: none,
    expiresAt: optional(filled),
    filter: as("filterExpr", optional(filled)),
    ackMode: orElse(AckModeWord, "auto"),
    backpressure: orElse(BackpressureWord, "buffer"),
    status: orElse(word("CONSUMER_GROUP_STATUS", "active", "paused"), "active"),
    position: orElse(digits, 0),
    lag: orElse(digits, 0),
    members: unless([], Members)
  })
)
const ConnectGroups = eitherCase(
  fields<GroupPage>({
    groups: unless([], some(ConnectGroup)),
    nextCursor: optional(filled),
    totalCount: zero
  })
)
export interface ConnectSettings extends Partial<GroupSettings> {
  readonly filter?: string
  readonly metadata?: { readonly [name: string]: unknown }
}
/** Words come in any spelling, or are none: the engine checks them. */
export const ConnectSettings = fields<ConnectSettings>({
  filter: as("filterExpr", optional(text)),
  ackMode: optional(AckModeWord),
  backpressure: optional(BackpressureWord),
  buffer: optional(Buffer),
  maxInflight: optional(integer),
  maxRedeliveries: optional(integer),
  redeliverDelayMs: optional(integer),
  metadata: optional(object)
})
const Choice = struct({
  name: text,
  namespace: optional(text),
  pattern: optional(text)
})
const ConnectNew = both(
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
/** `by` and `reason` are for a status that becomes paused. */
const ConnectUpdate = fields<ConnectUpdate>({
  group: both(both(Choice, ConnectSettings), struct({ status: optional(StatusWord) })),
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
  answer: asItIs<object>()
})
export const groupDeadLetters = operation("GET /api/v1/consumer-groups/:name/dead-letters", {
  answer: DeadLetters,
  ours: true
})
export const retryGroupDeadLetters = operation("POST /api/v1/consumer-groups/:name/dead-letters/retry", {
  answer: Retrying,
  ours: true
})

const noGroup = { 404: ConsumerGroupNotFoundError } as const
const exists = { 409: ConsumerGroupExistsError } as const

export const rows = {
  /** The groups, in the order in which they came into being; in pages always. */
  restListConsumerGroups: row("GET /api/v1/consumer-groups", each("subscription:read", "group"), {
    query: ["namespace", "name", "status", "limit", "cursor"],
    answer: Groups
  }),
  /** Begins a group at the end of the log, before anybody has joined it. It is kept until it is deleted. */
  restCreateConsumerGroup: row(
    "POST /api/v1/consumer-groups",
    inBody("subscription:manage", "group", "name"),
    { body: CreateGroup, answer: Group, errors: exists }
  ),
  /** One group; `namespace` and `pattern` say which, where a name alone does not. */
  restGetConsumerGroup: row(
    "GET /api/v1/consumer-groups/:name",
    inPath("subscription:read", "group", "name"),
    { query: ["namespace", "pattern"], answer: Group, errors: noGroup }
  ),
  /** Changes settings, for members that are connected as well. */
  restUpdateConsumerGroup: row(
    "PATCH /api/v1/consumer-groups/:name",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], body: UpdateGroup, answer: Group, errors: noGroup }
  ),
  /** Deletes a group with all that it has handed out. */
  restDeleteConsumerGroup: row(
    "DELETE /api/v1/consumer-groups/:name",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], errors: noGroup }
  ),
  /** Hands out nothing more; what members hold they may still settle. */
  restPauseConsumerGroup: row(
    "POST /api/v1/consumer-groups/:name/pause",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], body: PauseGroup, answer: Group, errors: noGroup }
  ),
  /** Goes on where it was. */
  restResumeConsumerGroup: row(
    "POST /api/v1/consumer-groups/:name/resume",
    inPath("subscription:manage", "group", "name"),
    { query: ["namespace", "pattern"], answer: Group, errors: noGroup }
  ),
  /** What a group has given up, in the order of the log; what is `after` a position. */
  groupDeadLetters: row(groupDeadLetters, inPath("subscription:read", "group", "name"), {
    query: ["namespace", "pattern", "after", "limit"],
    errors: noGroup
  }),
  /** Hands a dead letter out again, or all of them without a `position`. */
  retryGroupDeadLetters: row(retryGroupDeadLetters, inPath("subscription:manage", "group", "name"), {
    query: ["namespace", "pattern"],
    body: RetryLetters,
    errors: { 404: ConsumerGroupNotFoundError, 409: InvalidStateError }
  }),

  /** Begins a group at the end of the log, before anybody has joined it. It is kept until it is deleted. */
  createConsumerGroup: row(createConsumerGroup, inBody("subscription:manage", "group", "name"), {
    body: ConnectNew,
    errors: exists
  }),
  /** One group; `namespace` and `pattern` say which, where a name alone does not. */
  getConsumerGroup: row(getConsumerGroup, inBody("subscription:read", "group", "name"), {
    body: Choice,
    errors: noGroup
  }),
  /** The groups, in the order in which they came into being; in pages always. */
  listConsumerGroups: row(listConsumerGroups, each("subscription:read", "group"), { body: ListGroups }),
  /** Changes the settings and the status that `updateMask` names, or those that are there. */
  updateConsumerGroup: row(
    updateConsumerGroup,
    {
      action: "subscription:manage",
      subject: { from: "body", kind: "group", members: ["name"], in: "group" }
    },
    { body: ConnectUpdate, errors: noGroup }
  ),
  /** Deletes a group with all that it has handed out. */
  deleteConsumerGroup: row(deleteConsumerGroup, inBody("subscription:manage", "group", "name"), {
    body: Choice,
    errors: noGroup
  })
}
