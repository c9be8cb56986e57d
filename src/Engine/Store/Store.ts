/**
 * Where the engine keeps everything: one interface of verb-first operations, each one atomic change or one read.
 *
 * An operation that changes something answers after its change is durable. Changes that arrive together share a
 * commit. What a commit means for the rest of the engine (a wait of a live turn fired, a run became ready, a run
 * ended, something is due) is told once per commit to the listeners of `onCommit`, before the callers wake.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { AuditEvent, FunctionInfo, ListRunsResult, Run, RunStep } from "../../Client/Client.ts"
import type { StoredStreamEvent, StreamAppend } from "../../EntityStream.ts"
import type {
  BucketExistsError,
  BucketNotFoundError,
  ConfigNotFoundError,
  FunctionNotFoundError,
  ApiKeyNotFoundError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  StreamNotFoundError,
  KeyNotFoundError,
  LimitExceededError,
  InvalidStateError,
  RevisionConflictError,
  RevisionGoneError,
  RunNotFoundError,
  StepNotFoundError,
  StoreError,
  ValidationError,
  VersionConflictError
} from "../../Errors.ts"
import type { EventEntity } from "../../Event.ts"
import type { JsonText } from "../../Json.ts"
import type { FunctionRegistration, Job, Notice, TurnAck, TurnReport } from "../../Protocol/Worker.ts"
import type { RunStatus } from "../../RunStatus.ts"
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import type { RunHistory } from "../../Protocol/History.ts"
import type {
  AccessChange,
  AccessLogEntry,
  AccessRecords,
  KeyRecord,
  NewKey,
  NewPolicy,
  NewSecret,
  OrgRecord,
  PolicyChanges,
  PolicyRecord,
  RoleRecord
} from "./AccessRecords.ts"
import type { Seen } from "./Activity.ts"
import type { GroupSetup, GroupStore } from "./GroupStore.ts"
import type { ProjectionChange, ProjectionStore } from "./ProjectionStore.ts"
import type * as Program from "./Program.ts"
import type { HeldBack } from "./Schedules.ts"
import type { Holder, Holders, Lease } from "./Stuck.ts"

/** An event to append to the log. */
export interface NewEvent {
  readonly environment: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  readonly idempotencyKey?: string
  /** The id of the webhook that it came by, to which its idempotency key belongs then. */
  readonly webhook?: string
  /** The stream that the event is part of: only appends to streams give it. */
  readonly entity?: EventEntity
}

export interface AppendedEvent {
  readonly eventId: string
  readonly position: number
  readonly runIds: Array<string>
  /** Whether an earlier event with the same idempotency key was returned instead. */
  readonly duplicate: boolean
  /** The earlier event with the same key had other data. */
  readonly conflicting: boolean
  /** Trigger or concurrency expressions that failed for this event: they count as no match. */
  readonly warnings: ReadonlyArray<string>
}

/** What an append to a stream has come to. */
export interface AppendedToStream {
  /** The version of the stream after the append. */
  readonly entityVersion: number
  /** Position of the last event in the log. */
  readonly position: number
  readonly events: ReadonlyArray<StoredStreamEvent>
  /** Whether an earlier append with the same idempotency key was returned instead. */
  readonly duplicate: boolean
  /** The earlier append with the same key had other events. */
  readonly conflicting: boolean
  /** As of {@link AppendedEvent}. */
  readonly warnings: ReadonlyArray<string>
}

export interface ReadStreamQuery {
  readonly environment: string
  readonly entityId: string
  /** Inclusive; 0 for the first event, or backwards the last. */
  readonly fromVersion: number
  /** 0 for all. */
  readonly limit: number
  readonly backward: boolean
  /** Fails with `LimitExceededError` for more characters of data. */
  readonly most?: number
}

/** An event of a stream; `timestamp` is epoch milliseconds. */
export interface StreamEventRow {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  readonly timestamp: number
  readonly entityVersion: number
  readonly position: number
}

/** `totalCount` counts all events of the stream. */
interface StreamRows {
  readonly events: ReadonlyArray<StreamEventRow>
  readonly totalCount: number
}

/** A stream; times are epoch milliseconds. */
export interface StreamRow {
  readonly entityId: string
  readonly entityType: string
  readonly version: number
  readonly createdAt: number
  readonly updatedAt: number
}

/** A run that an event has started. Times are epoch milliseconds. */
export interface StartedRun {
  readonly id: string
  readonly functionId: string
  readonly status: RunStatus
  readonly attempt: number
  readonly createdAt: number
  readonly startedAt?: number
  readonly endedAt?: number
  readonly steps: ReadonlyArray<StartedStep>
}

export interface StartedStep extends Pick<RunStep, "id" | "name" | "kind" | "status" | "attempt"> {
  readonly startedAt: number
  readonly endedAt?: number
}

export interface StreamHistoryEntry {
  readonly event: StreamEventRow
  readonly runs: ReadonlyArray<StartedRun>
}

/** A page of the history of a stream; `nextVersion` is the one that the next page begins with. */
export interface StreamHistoryPage {
  readonly info: StreamRow
  readonly entries: ReadonlyArray<StreamHistoryEntry>
  readonly nextVersion?: number
}

export interface ListStreamsQuery {
  readonly environment: string
  readonly entityType?: string
  readonly limit: number
  readonly offset: number
}

export interface NewSnapshot {
  readonly environment: string
  readonly entityId: string
  readonly entityType: string
  readonly entityVersion: number
  readonly state: JsonText
}

export interface SnapshotRow extends Omit<NewSnapshot, "environment"> {
  readonly snapshotId: string
  readonly createdAt: number
}

export interface NewMessage {
  readonly environment: string
  readonly topic: string
  readonly data: JsonText
  readonly idempotencyKey?: string
}

export interface AppendedMessage {
  readonly eventId: string
  readonly sequence: number
  readonly duplicate: boolean
  readonly conflicting: boolean
}

/** A worker that has room for more runs. */
export interface Demand {
  readonly workerId: string
  readonly environment: string
  /** Function id to code hash, as the worker registered them. */
  readonly functions: ReadonlyMap<string, string>
  readonly labels: { readonly [key: string]: string }
  readonly credit: number
  /** How many runs it takes at most; `credit` unless given. */
  readonly capacity?: number
  /** How long a lease holds without a sign of life; absent for a worker in this process, which cannot outlive it. */
  readonly leaseMs?: number
}

export interface Claim {
  readonly workerId: string
  readonly job: Job
}

export interface Adoption {
  readonly lost: ReadonlyArray<string>
  /** Jobs that another worker of its id may be at. */
  readonly left: ReadonlyArray<string>
  readonly notices: ReadonlyArray<Notice>
  /** The ids of its own jobs sort after this. */
  readonly since: string
}

/** How often something happened, for metrics. */
export interface Counts {
  /** Events stored. */
  events: number
  /** Runs created, completed, failed and cancelled. */
  started: number
  completed: number
  failed: number
  cancelled: number
  /**
   * Refused, because whoever wrote does not hold what it wrote about (guarantee G4): reports of turns, renewals of leases,
   * saves of projections, acks of messages.
   */
  staleReports: number
  staleRenewals: number
  staleSaves: number
  staleAcks: number
}

export const noCounts = (): Counts => ({
  events: 0,
  started: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  staleReports: 0,
  staleRenewals: 0,
  staleSaves: 0,
  staleAcks: 0
})

/** Adds up `more` in `counts`. */
export const addCounts = (counts: Counts, more: Readonly<Counts>): void => {
  for (const name of countNames) counts[name] += more[name]
}

const countNames = Object.keys(noCounts()) as ReadonlyArray<keyof Counts>

/** What a commit changed that somebody may be waiting for. */
export interface Changes {
  readonly counts: Readonly<Counts>
  /** Messages for turns in flight. */
  readonly notices: ReadonlyArray<{ readonly workerId: string; readonly notice: Notice }>
  /** Ids of the runs that completed, failed or were cancelled. */
  readonly ended: ReadonlyArray<string>
  /** What happened to runs; empty while nobody observes. */
  readonly activity: ReadonlyArray<Seen>
  /** What happened to keys, in the order of their revisions. */
  readonly kv: ReadonlyArray<KvChange>
  /** Buckets that were deleted. */
  readonly kvDeleted: ReadonlyArray<number>
  /** What a person should hear of and no caller is told: trigger expressions that failed for an event of a `step.tx`. */
  readonly warnings: ReadonlyArray<string>
  /** The projections that were saved, claimed, released or steered, by their `projectionKey`. */
  readonly projections: ReadonlyArray<string>
  /** Keys of the consumer groups that were updated, paused, resumed or deleted. */
  readonly groups: ReadonlyArray<number>
  /** What was saved of managed projections; empty while nobody observes states. */
  readonly states: ReadonlyArray<ProjectionChange>
  /** Configurations that were written or deleted. */
  readonly configs: ReadonlyArray<ConfigChange>
  /** What changed of keys, organizations, roles and policies, in order. */
  readonly access: ReadonlyArray<AccessChange>
  /** A run can be claimed. */
  readonly ready: boolean
  /** Position of the newest row of the log that was stored; 0 when none was. */
  readonly logEnd: number
  /** The earliest time at which something new is due, epoch milliseconds; `Infinity` when nothing is. */
  readonly dueAt: number
}

/** A configuration as it was written. */
export interface ConfigChange {
  readonly environment: string
  readonly name: string
  /** Absent when it was deleted. */
  readonly data?: JsonText
  readonly revision: number
  /** Epoch milliseconds. */
  readonly updatedAt: number
}

/** A part of the log of one environment, oldest first. */
export interface LogQuery {
  readonly environment: string
  /** Events and messages both when absent. */
  readonly kind?: LogEntryKind
  /** Position after which to begin; 0 for the beginning. */
  readonly after: number
  /** Names or patterns, of which one must fit; all names when absent. */
  readonly patterns?: ReadonlyArray<string>
  /**
   * Rows to look at, whether they fit or not: a bound for the work of one call. A store that finds what fits without looking
   * at the rest returns as many more at most.
   */
  readonly limit: number
}

export type LogEntryKind = "event" | "message"

/** A part of the log of one environment, newest first. */
export interface LogBackQuery extends Omit<LogQuery, "after"> {
  /** Position before which to begin. */
  readonly before: number
}

export interface LogBackPage extends LogPage {
  /** How many rows were looked at. */
  readonly rows: number
}

export interface LogEntry {
  readonly position: number
  readonly kind: LogEntryKind
  readonly id: string
  /** Of the event, or of the topic. */
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  /** Epoch milliseconds. */
  readonly timestamp: number
  /** The stream that the event is part of, if any. */
  readonly entity?: EventEntity
}

export interface LogPage {
  readonly entries: ReadonlyArray<LogEntry>
  /** Where to read on: everything up to here has been looked at. */
  readonly position: number
  /** Whether that is the end of the log, for now. */
  readonly atEnd: boolean
}

/** Times are epoch milliseconds. */
export interface TopicRow {
  readonly name: string
  readonly messageCount: number
  readonly firstMessageAt?: number
  readonly lastMessageAt?: number
}

export interface TopicState {
  readonly messageCount: number
  /** Position of the oldest message that is kept; 0 when there is none. */
  readonly firstSeq: number
  /** Position of the newest message there has been; 0 when there has been none. */
  readonly lastSeq: number
  /** Messages that the consumer group furthest behind has not finished; 0 without groups. */
  readonly lag: number
}

/** A part of a list by name: what comes after a name. */
export interface ListPage {
  readonly after: string
  /** At most so many; -1 for all. */
  readonly limit: number
}

export const ALL: ListPage = { after: "", limit: -1 }

export interface MessageLimits {
  /** Messages from before are deleted; epoch milliseconds. */
  readonly storedBefore: number
  /** Bytes of the data of one topic. */
  readonly topicBytes: number
}

export interface RunSteps {
  readonly steps: ReadonlyArray<RunStep>
  /** Where to go on; absent at the end. */
  readonly next?: number
}

export interface MessagesDeleted {
  readonly deleted: number
  /** Environment and name of the topic to go on after; absent at the end. */
  readonly after?: readonly [environment: number, topic: string]
}

export interface NewGroup {
  readonly environment: string
  readonly namespace: string
  readonly name: string
  /** With its prefix, as it was subscribed to. */
  readonly pattern: string
  /** What the members get; absent for events and messages both. */
  readonly kind?: LogEntryKind
  /** The part of the pattern that names match. */
  readonly names: string
  /** CEL; another one replaces it for what has not been handed out yet, unless somebody has configured the group. */
  readonly filter?: string
  /** Begin after this position, if the group is new; at the end of the log by default. */
  readonly after?: number
}

export interface GroupState extends GroupSetup {
  readonly key: number
  readonly isNew: boolean
  /** Everything up to here has been handed out or passed over. */
  readonly cursor: number
}

export interface GroupDemand {
  readonly group: number
  readonly members: ReadonlyArray<{
    readonly holder: string
    readonly credit: number
    readonly ackMs: number
    /** It let its time for something run out, and has said nothing since: others come before it. */
    readonly isSilent?: boolean
    /** While it is silent it gets nothing: it would say something if it could. */
    readonly speaks?: boolean
  }>
  /** Deliveries that have failed so often are given up. */
  readonly maxRedeliveries: number
}

export interface ClaimedDelivery {
  readonly holder: string
  /** One more with every redelivery after a failure; 1 at first. */
  readonly attempt: number
  readonly entry: LogEntry
}

export interface GroupClaim {
  readonly deliveries: ReadonlyArray<ClaimedDelivery>
  /** Those that were given up, with who held them last. */
  readonly exhausted: ReadonlyArray<{
    readonly position: number
    readonly id: string
    readonly attempts: number
  }>
  /** Holders who let their time for something run out. */
  readonly silent: ReadonlyArray<string>
  /** Whether there may be more at once. */
  readonly more: boolean
  /** When something is due again that is not yet, epoch milliseconds; `Infinity` when nothing is. */
  readonly nextDueAt: number
}

export interface Settlement {
  readonly group: number
  readonly position: number
  readonly holder: string
  /** Absent: it is done. */
  readonly failed?: {
    /** Absent: it is given up at once. */
    readonly redelivery?: Redelivery
    readonly reason?: string
  }
}

/** When what has failed is due again: after `firstMs` at first, twice as long each time, and never longer than `longestMs`. */
export interface Redelivery {
  readonly firstMs: number
  readonly longestMs: number
  /** Deliveries that have failed more often than this are given up. */
  readonly maxRedeliveries: number
}

/** A sign of life from a holder. */
export interface Extension {
  readonly holder: string
  /** Milliseconds from now. */
  readonly ackMs: number
  /** Of this delivery only; else of all that it holds. */
  readonly position?: number
  readonly except?: ReadonlyArray<number>
}

interface Fired {
  /** How many timers and leases were due. */
  readonly count: number
  /** When the next one is due, epoch milliseconds; `Infinity` when nothing is. */
  readonly nextDueAt: number
  /** Why not all that was due could be fired. */
  readonly failed?: StoreError
}

export interface ListRunsQuery {
  readonly environment: string
  readonly functionId?: string
  readonly status?: RunStatus
  readonly limit: number
  readonly cursor?: string
}

export interface DeletedRuns {
  readonly deleted: number
  /** Where to go on; absent at the end. */
  readonly after?: number
}

/** What `explain` needs to know about a run that is in the database. */
export interface RunSituation {
  readonly run: Run
  readonly environment: string
  /** The live lease, if any. */
  readonly lease?: Lease
  /** When a step was finished last, by the clock of its worker, epoch milliseconds. */
  readonly lastStepAt?: number
  /** What is damaged of the run, for which the engine leaves it alone. */
  readonly damage?: string
  /** Since when the run can be claimed, epoch milliseconds. */
  readonly readyAt?: number
  /** How often it was lost since its last step, if it is tried apart from others because of that. */
  readonly losses?: number
  readonly concurrencyKey?: string
  /** How many runs hold a lease under the same concurrency key. */
  readonly held: number
  /** The ids of some of them. */
  readonly holders: ReadonlyArray<string>
  readonly waits: ReadonlyArray<{
    readonly stepId: string
    readonly name: string
    readonly kind: "sleep" | "event" | "child" | "retry" | "run-retry"
    readonly dueAt?: number
    readonly fired: boolean
    readonly event?: string
    readonly match?: string
    readonly matchValue?: string
    readonly childRunId?: string
    readonly failures?: number
    readonly error?: string
  }>
  readonly pause?: { readonly code: string; readonly message: string; readonly details?: unknown }
  readonly registration?: FunctionRegistration
  readonly functionDeleted?: boolean
  /** The worker to which the run's actor is bound. */
  readonly actorWorkerId?: string
  /** The schedule whose fires wait for its end, or are left out until then. */
  readonly heldBack?: HeldBack
}

export interface SealedSecret {
  readonly name: string
  readonly sealed: string
}

/** A bucket of keys to make. Names that begin with `$` are the engine's own. */
export interface NewKvBucket {
  readonly name: string
  readonly description?: string
  readonly ttlMs?: number
  readonly maxValueBytes: number
  readonly maxBytes?: number
  /** Revisions that are kept of each key, the present one included. */
  readonly history: number
}

export interface KvBucketRow extends NewKvBucket {
  /** Of the last write. */
  readonly revision: number
  readonly values: number
  readonly bytes: number
  /** Epoch milliseconds. */
  readonly createdAt: number
}

export interface KvEntryRow {
  readonly key: string
  readonly revision: number
  readonly operation: KvOperation
  /** Without bytes unless the operation is `put`. */
  readonly value: StoredValue
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds. */
  readonly expiresAt?: number
}

export interface KvChange extends Omit<KvEntryRow, "expiresAt"> {
  /** The bucket's number, which one made anew does not share. */
  readonly bucket: number
}

export interface RecordingPage {
  readonly events: Array<AuditEvent>
  /** After what to go on; absent at the end. */
  readonly next?: number
}

export interface KvHistoryQuery {
  readonly key: string
  /** Revisions after this one. */
  readonly after: number
  readonly limit: number
}

export interface KvHistoryPage {
  readonly entries: Array<KvEntryRow>
  /** The revision to go on after; absent at the end. */
  readonly next?: number
}

export interface KvKeysQuery {
  /** Begins after this key; "" for the first. */
  readonly after: string
  /** Keys that are looked at, whether they are accepted or not. */
  readonly limit: number
  readonly accepts: (key: string) => boolean
}

export interface KvKeysPage {
  readonly keys: ReadonlyArray<string>
  /** The key after which to go on; absent at the end. */
  readonly nextCursor?: string
}

export interface KvChangePage {
  readonly bucket: number
  readonly changes: ReadonlyArray<KvChange>
  /** Where to read on. */
  readonly revision: number
  /** Whether that is the last revision of the bucket, for now. */
  readonly atEnd: boolean
}

/** A change of a key; deletes it when there is no value. */
export interface KvWriteRow {
  readonly key: string
  readonly value?: StoredValue
  /** The revision that the key must have; 0: it must not exist. */
  readonly expected?: number
  /** Deletes the history too. */
  readonly purge?: boolean
}

/** A configuration; `data` is JSON text of an object. */
export interface ConfigRow {
  readonly name: string
  readonly data: JsonText
  readonly revision: number
  /** Epoch milliseconds. */
  readonly updatedAt: number
}

/** Where a run may be steered from the outside. */
/** What a command about a run is refused with. */
type SteerError = RunNotFoundError | StepNotFoundError | InvalidStateError | ValidationError | StoreError

/** What reading a run, or runs, fails with. */
type ReadRunError = RunNotFoundError | ValidationError | StoreError

/** What reading about a stream fails with. */
type StreamError = StreamNotFoundError | ValidationError | StoreError

/** What a change of keys, organizations, roles and policies is refused with. */
type AccessError =
  | ApiKeyNotFoundError
  | OrgNotFoundError
  | RoleNotFoundError
  | PolicyNotFoundError
  | InvalidStateError
  | ValidationError
  | StoreError

export interface StoreService {
  /** Runs a program that writes, and answers after the commit. Fails with what the program refuses with. */
  readonly write: <A>(
    call: Program.Call<A>
  ) => Effect.Effect<Program.Done<A>, Program.Refusal<A> | StoreError>
  /** Runs a program that only reads. */
  readonly read: <A>(call: Program.Call<A>) => Effect.Effect<Program.Done<A>, Program.Refusal<A> | StoreError>
  /** Calls `listener` after every commit that changed something; returns the way to stop that. */
  readonly onCommit: (listener: (changes: Changes) => void) => () => void

  /** Calls `listener` once, with why, when another engine is found to have taken the database over: nothing is written from then on. */
  readonly onLost: (listener: (error: StoreError) => void) => void
  /** Looks whether that has happened, without writing. Absent where it cannot happen. */
  readonly checkOwner?: Effect.Effect<void, StoreError>

  /**
   * Calls `listener` after every commit with what happened to runs in it; returns the way to stop that. With `runsOnly` what
   * happens to their steps is told only if somebody else looks at that.
   */
  readonly observe: (
    listener: (activity: ReadonlyArray<Seen>) => void,
    options?: { readonly runsOnly?: boolean }
  ) => () => void

  /** From now on commits tell the states of projections that they save; returns the way to stop that. */
  readonly observeStates: () => () => void

  /**
   * Adds functions or replaces their configuration. `startedAt` (epoch milliseconds, now by default) is when the program
   * that has them was started: what a program that was started later has registered stands. Returns the ids of those.
   */
  /** Throws `LimitExceededError` when these, registered now, would be more functions than an environment may have. */
  readonly checkRoom: (environment: string, functions: ReadonlyArray<FunctionRegistration>) => void
  readonly registerFunctions: (
    environment: string,
    functions: ReadonlyArray<FunctionRegistration>,
    startedAt?: number
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Nothing starts the function until it is registered again; its runs stay. Fails with `FunctionNotFoundError`. */
  readonly deleteFunction: (
    environment: string,
    functionId: string
  ) => Effect.Effect<void, FunctionNotFoundError | StoreError>
  /** A function as it was last registered, also one that was deleted since. */
  readonly findFunction: (environment: string, functionId: string) => FunctionRegistration | undefined
  /** Functions that are pushed to an endpoint, of every environment. */
  readonly pushFunctions: () => ReadonlyArray<{
    readonly environment: string
    readonly registration: FunctionRegistration
  }>
  readonly listFunctions: (environment: string) => Effect.Effect<Array<FunctionInfo>, StoreError>
  /** `undefined` when there is none, or none any more. */
  readonly getFunction: (
    environment: string,
    functionId: string
  ) => Effect.Effect<FunctionInfo | undefined, StoreError>
  readonly countFunctions: (environment: string) => number
  /** Throws `LimitExceededError` when there is no such environment, and no room for another. */
  readonly checkEnvironment: (environment: string) => void

  /** Stores an event, starts the runs that it triggers and fires the waits that it satisfies. */
  readonly appendEvent: (event: NewEvent) => Effect.Effect<AppendedEvent, StoreError>
  /**
   * Stores events of one environment in their order as `appendEvent` does, all or none: none fails with `LimitExceededError` when they
   * could start too many runs.
   */
  readonly appendEvents: (
    events: ReadonlyArray<NewEvent>
  ) => Effect.Effect<ReadonlyArray<AppendedEvent>, LimitExceededError | StoreError>
  /**
   * Stores events of a stream as `appendEvent` does, all or none. Fails with `VersionConflictError` when the stream is not
   * as expected, with `InvalidStateError` when it is of another entity type, and with `LimitExceededError` when it could start too
   * many runs; then nothing has changed.
   */
  readonly appendToStream: (
    environment: string,
    append: StreamAppend
  ) => Effect.Effect<
    AppendedToStream,
    VersionConflictError | InvalidStateError | LimitExceededError | StoreError
  >
  readonly readStream: (query: ReadStreamQuery) => Effect.Effect<StreamRows, LimitExceededError | StoreError>
  /** Fails with `StreamNotFoundError`. */
  readonly getStream: (environment: string, entityId: string) => Effect.Effect<StreamRow, StreamError>
  /**
   * Events of a stream with the runs that they started. A page may end before `limit`, which must not be 0. Fails with
   * `StreamNotFoundError`.
   */
  readonly readStreamHistory: (query: ReadStreamQuery) => Effect.Effect<StreamHistoryPage, StreamError>
  /** By entity id. `totalCount` counts all that the query is about. */
  readonly listStreams: (
    query: ListStreamsQuery
  ) => Effect.Effect<{ readonly streams: ReadonlyArray<StreamRow>; readonly totalCount: number }, StoreError>
  /** Returns the snapshot's id. Fails with `StreamNotFoundError`, or when the version or type is not the stream's. */
  readonly putSnapshot: (snapshot: NewSnapshot) => Effect.Effect<string, StreamError>
  /** The newest one below `beforeVersion`, which is 0 for the newest of all. */
  readonly getSnapshot: (
    environment: string,
    entityId: string,
    beforeVersion: number
  ) => Effect.Effect<SnapshotRow | undefined, StoreError>
  /** Stores a message of a topic. */
  readonly appendMessage: (message: NewMessage) => Effect.Effect<AppendedMessage, StoreError>

  /** Reads on in the log. What a page does not hold yet is announced by `Changes.logEnd`. */
  readonly readLog: (query: LogQuery) => Effect.Effect<LogPage, StoreError>
  /** Position of the newest row of the log, whatever its environment; 0 when it is empty. */
  readonly endOfLog: () => Effect.Effect<number, StoreError>
  /** Reads the log backwards. `position` is where the next call begins. */
  readonly readLogBack: (query: LogBackQuery) => Effect.Effect<LogBackPage, StoreError>

  /** Topics that hold messages or have held some, by name. */
  readonly listTopics: (
    environment: string,
    page?: ListPage
  ) => Effect.Effect<ReadonlyArray<TopicRow>, StoreError>
  /** What is known of a topic; one that has never held a message has zeros. */
  readonly getTopic: (environment: string, topic: string) => Effect.Effect<TopicState, StoreError>
  /** Deletes messages that are too old, or too many for their topic, at most `limit`, of some topics after the one given. */
  readonly deleteOldMessages: (
    limits: MessageLimits,
    limit: number,
    after?: MessagesDeleted["after"]
  ) => Effect.Effect<MessagesDeleted, StoreError>

  /** Finds the consumer group or begins one at the end of the log. */
  readonly openGroup: (group: NewGroup) => Effect.Effect<GroupState, StoreError>
  /** The same, but begins none: `undefined` when it is not there. */
  readonly reopenGroup: (group: NewGroup) => Effect.Effect<GroupState | undefined, StoreError>
  /**
   * Hands messages of a group to members with room: those that are due again first, then what follows in the log. Nothing
   * while the group is paused.
   */
  readonly claimDeliveries: (demand: GroupDemand) => Effect.Effect<GroupClaim, StoreError>
  /** Ends deliveries, or gives them back. What a holder no longer holds changes nothing; says which settled. */
  readonly settleDeliveries: (
    settlements: ReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<boolean>, StoreError>
  /** Gives a holder time; returns for how many deliveries. */
  readonly extendDeliveries: (extension: Extension) => Effect.Effect<number, StoreError>
  /** A member is gone: what it holds is due at once, which counts as no failure. */
  readonly releaseHolder: (holder: string) => Effect.Effect<void, StoreError>
  /** Marks groups as in use now. */
  readonly touchGroups: (groups: ReadonlyArray<number>) => Effect.Effect<void, StoreError>
  /**
   * Deletes groups that nobody has used since `before` (epoch milliseconds), at most `limit`; returns how many. Those that
   * somebody has configured, and paused ones, stay.
   */
  readonly deleteAbandonedGroups: (before: number, limit: number) => Effect.Effect<number, StoreError>

  /** Whether a committed run may be ready: a hint that saves a claim, wrong only in saying yes. */
  readonly mayHaveReady: () => boolean
  /** Leases ready runs to workers with room. */
  readonly claimRuns: (demands: ReadonlyArray<Demand>) => Effect.Effect<ReadonlyArray<Claim>, StoreError>
  /**
   * Applies reports of turns; each all or none. A report whose lease is not the run's changes nothing, nor does one about a
   * run of another environment than `environment`. With `callsBack` a turn whose run is to be paused is not told so: it loses
   * its lease, and the answer is a refusal although the report is stored. For workers that would not understand.
   */
  readonly applyReports: (
    reports: ReadonlyArray<TurnReport>,
    environment?: string,
    options?: { readonly callsBack?: boolean }
  ) => Effect.Effect<ReadonlyArray<TurnAck>, StoreError>
  /**
   * Extends leases; returns the job ids whose lease is gone, or whose run is one of another environment than `environment`.
   * With a `holder`, those on which nothing moves any more are left to run out.
   */
  readonly extendLeases: (
    jobIds: ReadonlyArray<string>,
    leaseMs: number,
    holder?: Holder,
    environment?: string
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /**
   * A worker outside this process comes back with its turns `jobIds`: those that it still holds are extended, and
   * `notices` repeats what has fired for them; it loses the rest, which counts as no loss of the runs. `lost` are those
   * of `jobIds` that it does not hold. Actors of functions that it does not have go to other workers. Other jobs whose ids do not
   * sort after `since`, as an earlier adoption has said it, may be held by another worker of this id: they are `left` to run out.
   */
  readonly adoptLeases: (
    workerId: string,
    jobIds: ReadonlyArray<string>,
    leaseMs: number,
    functionIds: ReadonlySet<string>,
    since?: string
  ) => Effect.Effect<Adoption, StoreError>
  /**
   * Ends the leases of a worker that is gone, but not those of the jobs `left`. `lost` says that it died: that counts as a loss of
   * each run.
   */
  readonly releaseWorker: (
    workerId: string,
    lost: boolean,
    left?: ReadonlySet<string>
  ) => Effect.Effect<number, StoreError>
  /**
   * The workers of these jobs are done with them. Runs that were taken from them (cancelled, patched, resumed from a step) may be
   * handed out again, which they are not before the terms of their leases are over otherwise.
   */
  readonly endRevoked: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  /** Ends one lease, which counts as a loss of the run; says whether there was one. `why` is kept with the run. */
  readonly loseLease: (jobId: string, why: string) => Effect.Effect<boolean, StoreError>
  /** A step call came after the end of its turn: dispatch the run again with a longer linger. */
  readonly markLate: (
    runId: string,
    lingerMs: number,
    environment?: string
  ) => Effect.Effect<void, StoreError>
  /** Fires what is due: waits, retries, expired leases, expired keys. */
  readonly fireDue: () => Effect.Effect<Fired, StoreError>

  readonly getRun: (environment: string, runId: string) => Effect.Effect<Run, ReadRunError>
  /** The run if it has ended: cheaper than reading it to find that it has not. */
  readonly getEndedRun: (environment: string, runId: string) => Effect.Effect<Run | undefined, ReadRunError>
  /** The environment of a run, whichever it is; `undefined` when there is no such run. */
  readonly environmentOfRun: (runId: string) => Effect.Effect<string | undefined, StoreError>
  /** The name of the event that has started a run; `undefined` for one that was invoked, or is not there. */
  readonly getEventName: (environment: string, runId: string) => Effect.Effect<string | undefined, StoreError>
  readonly listRuns: (query: ListRunsQuery) => Effect.Effect<ListRunsResult, ReadRunError>
  readonly getRunSteps: (environment: string, runId: string) => Effect.Effect<Array<RunStep>, ReadRunError>
  /** A part of the steps. */
  readonly readRunSteps: (
    environment: string,
    runId: string,
    part: { readonly from: number; readonly limit: number }
  ) => Effect.Effect<RunSteps, ReadRunError>
  /** A part of what was recorded of a run, oldest first. It may have fewer events than `limit`. */
  readonly readRecording: (
    environment: string,
    runId: string,
    part: { readonly after: number; readonly limit?: number }
  ) => Effect.Effect<RecordingPage, ReadRunError>
  /** Deletes records whose time has passed, at most `limit`; returns how many. */
  readonly deleteExpiredRecordings: (limit: number) => Effect.Effect<number, StoreError>
  /** Deletes idempotency keys whose window has passed, at most `limit` of them; returns how many. */
  readonly deleteExpiredIdempotencyKeys: (limit: number) => Effect.Effect<number, StoreError>
  /** What is recorded of a run, as it would be replayed. */
  readonly getHistory: (environment: string, runId: string) => Effect.Effect<RunHistory, ReadRunError>
  readonly getSituation: (environment: string, runId: string) => Effect.Effect<RunSituation, ReadRunError>
  readonly cancelRun: (environment: string, runId: string, reason: string) => Effect.Effect<Run, SteerError>
  readonly pauseRun: (environment: string, runId: string, reason: string) => Effect.Effect<Run, SteerError>
  readonly resumeRun: (
    environment: string,
    runId: string,
    fromStep?: string
  ) => Effect.Effect<Run, SteerError>
  readonly retryRun: (environment: string, runId: string, fromStep?: string) => Effect.Effect<Run, SteerError>
  readonly patchStep: (
    environment: string,
    stepId: string,
    output: JsonText,
    reason: string
  ) => Effect.Effect<void, SteerError>
  readonly createKvBucket: (
    environment: string,
    bucket: NewKvBucket
  ) => Effect.Effect<KvBucketRow, BucketExistsError | StoreError>
  /** By name. */
  readonly listKvBuckets: (
    environment: string,
    page?: ListPage
  ) => Effect.Effect<Array<KvBucketRow>, StoreError>
  readonly readKvBucket: (
    environment: string,
    name: string
  ) => Effect.Effect<KvBucketRow, BucketNotFoundError | StoreError>
  readonly deleteKvBucket: (
    environment: string,
    name: string
  ) => Effect.Effect<void, BucketNotFoundError | StoreError>
  /** Changes different keys, all or none; returns their revisions. */
  readonly writeKv: (
    environment: string,
    bucket: string,
    writes: ReadonlyArray<KvWriteRow>
  ) => Effect.Effect<
    Array<number>,
    BucketNotFoundError | RevisionConflictError | LimitExceededError | StoreError
  >
  readonly readKv: (
    environment: string,
    bucket: string,
    key: string
  ) => Effect.Effect<KvEntryRow, BucketNotFoundError | KeyNotFoundError | StoreError>
  /** A page of the revisions of a key that are kept, oldest first. It may end before its `limit`. */
  readonly readKvHistory: (
    environment: string,
    bucket: string,
    query: KvHistoryQuery
  ) => Effect.Effect<KvHistoryPage, BucketNotFoundError | KeyNotFoundError | StoreError>
  /** A page of the keys that have a value, in order. */
  readonly listKvKeys: (
    environment: string,
    bucket: string,
    query: KvKeysQuery
  ) => Effect.Effect<KvKeysPage, BucketNotFoundError | StoreError>
  /** What is kept of the changes after a revision, in order; from the end on when `after` is `undefined`. */
  readonly readKvChanges: (
    environment: string,
    bucket: string,
    after: number | undefined,
    limit: number
  ) => Effect.Effect<KvChangePage, BucketNotFoundError | RevisionGoneError | StoreError>
  /** Replaces a configuration with JSON text of an object; returns its revision. */
  readonly setConfig: (
    environment: string,
    name: string,
    data: JsonText
  ) => Effect.Effect<number, LimitExceededError | StoreError>
  /** Replaces the members that the JSON text has. */
  readonly patchConfig: (
    environment: string,
    name: string,
    patch: JsonText
  ) => Effect.Effect<number, ConfigNotFoundError | LimitExceededError | StoreError>
  readonly readConfig: (
    environment: string,
    name: string
  ) => Effect.Effect<ConfigRow, ConfigNotFoundError | StoreError>
  /** At most `limit` after a name, by name. */
  readonly listConfigs: (
    environment: string,
    after: string,
    limit: number
  ) => Effect.Effect<Array<ConfigRow>, StoreError>
  readonly deleteConfig: (environment: string, name: string) => Effect.Effect<void, StoreError>
  /** What is kept of the changes of configurations, as `readKvChanges`. */
  readonly readConfigChanges: (
    environment: string,
    after: number | undefined,
    limit: number
  ) => Effect.Effect<KvChangePage, RevisionGoneError | StoreError>

  readonly projections: ProjectionStore
  readonly groups: GroupStore

  /** All keys, organizations, roles and policies, by id. What is built in is not among them. */
  readonly readAccess: () => Effect.Effect<AccessRecords, StoreError>
  /** Who changed them, newest first. `by` of the changes below is for this. */
  readonly readAccessLog: (limit: number) => Effect.Effect<Array<AccessLogEntry>, StoreError>
  readonly createApiKey: (key: NewKey, by: string) => Effect.Effect<KeyRecord, AccessError>
  /** Gives the key another secret; the old one ends, at once or after a while. */
  readonly rotateApiKey: (id: string, secret: NewSecret, by: string) => Effect.Effect<KeyRecord, AccessError>
  /** `mayOpen`: whether it may be the last one, without which a server asks for no key. `true` by default. */
  readonly deleteApiKey: (
    id: string,
    by: string,
    options?: { readonly mayOpen?: boolean }
  ) => Effect.Effect<void, AccessError>
  /** Makes the operator's own key stand, with the admin's role; once for each hash. */
  readonly putBootstrapKey: (hash: string) => Effect.Effect<void, StoreError>
  /** Notes when keys were last used. */
  readonly touchApiKeys: (
    uses: ReadonlyArray<{ readonly id: string; readonly at: number }>
  ) => Effect.Effect<void, StoreError>
  readonly createOrg: (name: string, by: string) => Effect.Effect<OrgRecord, AccessError>
  readonly updateOrg: (
    id: string,
    name: string | undefined,
    by: string
  ) => Effect.Effect<OrgRecord, AccessError>
  /** Refused while it has roles or policies. */
  readonly deleteOrg: (id: string, by: string) => Effect.Effect<void, AccessError>
  readonly createRole: (
    role: Pick<RoleRecord, "name" | "orgId">,
    by: string
  ) => Effect.Effect<RoleRecord, AccessError>
  readonly updateRole: (
    id: string,
    name: string | undefined,
    by: string
  ) => Effect.Effect<RoleRecord, AccessError>
  /** Refused while keys have it. */
  readonly deleteRole: (id: string, by: string) => Effect.Effect<void, AccessError>
  readonly assignPolicy: (roleId: string, policyId: string, by: string) => Effect.Effect<void, AccessError>
  readonly removePolicy: (roleId: string, policyId: string, by: string) => Effect.Effect<void, AccessError>
  readonly createPolicy: (policy: NewPolicy, by: string) => Effect.Effect<PolicyRecord, AccessError>
  readonly updatePolicy: (
    id: string,
    changes: PolicyChanges,
    by: string
  ) => Effect.Effect<PolicyRecord, AccessError>
  /** Refused while roles have it. */
  readonly deletePolicy: (id: string, by: string) => Effect.Effect<void, AccessError>

  /**
   * Deletes runs that ended before `endedBefore` (epoch milliseconds), at most `limit`, and looks at a bounded number of them.
   * Called again with the `after` that it returned it goes on from there.
   */
  readonly deleteEndedRuns: (
    endedBefore: number,
    limit: number,
    after?: number
  ) => Effect.Effect<DeletedRuns, StoreError>
  /**
   * Runs that are neither leased, due, paused nor waiting on something that exists; always 0 (guarantee G2). It reads
   * every unfinished run: for checks, not for hot paths.
   */
  readonly countStuckRuns: (holders?: Holders) => Effect.Effect<number, StoreError>
  /**
   * The time that deletions go by, epoch milliseconds: the clock's, but when that went forward, the time before that for
   * another day.
   */
  readonly settledNow: () => number
  /** Whether the database can be read and written, and nothing in it was found damaged since the start. */
  readonly health: () => StoreHealth
}

export type StoreHealth =
  { readonly status: "ok" } | { readonly status: "degraded" | "down"; readonly message: string }

/** The engine's storage. */
export class Store extends Context.Service<Store, StoreService>()("@ironflow/node/Store") {}
