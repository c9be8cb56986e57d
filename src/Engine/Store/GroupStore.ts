/** What the store does for those who look after consumer groups. */
import type * as Effect from "effect/Effect"
import type {
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  StoreError,
  ValidationError
} from "../../Errors.ts"
import type { GroupSettings } from "../../Protocol/Subscriptions.ts"
import type { LogEntry, LogEntryKind } from "./Store.ts"

/** Settings as they were given: what is absent is the engine's default. */
export type StoredSettings = Partial<GroupSettings>

/** A group by its name, which stands for one pattern unless that is named too. */
export interface GroupChoice {
  readonly environment: string
  readonly namespace: string
  readonly name: string
  readonly pattern?: string
}

export interface GroupDefinition extends GroupChoice {
  readonly pattern: string
  readonly kind?: LogEntryKind
  readonly names: string
  readonly filter?: string
  readonly settings: StoredSettings
  /** JSON text. */
  readonly metadata?: string
}

/** What is absent stays as it is; `null` takes it away. */
export interface GroupChange {
  readonly filter?: string | null
  readonly settings?: { readonly [Name in keyof StoredSettings]?: StoredSettings[Name] | null }
  readonly metadata?: string | null
  /** Pauses the group unless it is paused; `null` resumes it. */
  readonly paused?: { readonly by: string; readonly reason?: string } | null
}

export interface ListGroupsQuery {
  readonly environment: string
  readonly namespace?: string
  readonly name?: string
  readonly isPaused?: boolean
  /** Key of the group after which to begin; 0 for the first. */
  readonly after: number
  readonly limit: number
}

/** How a group is set up: what its members have to know. */
export interface GroupSetup {
  readonly filter?: string
  readonly settings: StoredSettings
  readonly isPaused: boolean
  /** Somebody has created or updated it: its filter is not a member's to change. */
  readonly isConfigured: boolean
}

export interface GroupInfo extends GroupSetup {
  readonly key: number
  readonly namespace: string
  readonly name: string
  readonly pattern: string
  readonly metadata?: string
  /** Everything up to here has been handed out or passed over. */
  readonly position: number
  /** Where it began; absent for groups of old. */
  readonly beginning?: number
  /** Events after the position that fit the pattern, whatever the filter says of them. */
  readonly lag: number
  /** The newest event that fits the pattern, and whether the filter lets it through; absent while some are to come. */
  readonly newest?: {
    readonly position: number
    readonly name: string
    readonly at: number
    readonly passes: boolean
  }
  readonly inFlight: number
  readonly retrying: number
  /** Epoch milliseconds. */
  readonly nextRetryAt?: number
  readonly givenUp: number
  /** Those of them that can be tried again. */
  readonly deadLetters: number
  readonly paused?: { readonly by: string; readonly at: number; readonly reason?: string }
  readonly createdAt: number
  readonly updatedAt: number
  readonly usedAt: number
}

/** What a group has given up. */
export interface GroupDeadLetter {
  readonly position: number
  readonly event: LogEntry
  readonly reason?: string
  readonly attempts: number
  /** Epoch milliseconds. */
  readonly at: number
}

interface GroupPage {
  readonly groups: ReadonlyArray<GroupInfo>
  /** After what to go on; absent at the end. */
  readonly next?: number
  readonly totalCount: number
}

/**
 * `ConsumerGroupNotFoundError`, or `ValidationError` with code `CONSUMER_GROUP_AMBIGUOUS` when the name stands for several
 * patterns and none of them is named.
 */
type Refusal = ConsumerGroupNotFoundError | ValidationError | StoreError

export interface GroupStore {
  /** Begins where the log ends. Fails with `ConsumerGroupExistsError`. */
  readonly create: (
    group: GroupDefinition
  ) => Effect.Effect<GroupInfo, ConsumerGroupExistsError | ValidationError | StoreError>
  readonly get: (group: GroupChoice) => Effect.Effect<GroupInfo, Refusal>
  /** In the order in which they came into being. */
  readonly list: (query: ListGroupsQuery) => Effect.Effect<GroupPage, StoreError>
  readonly update: (group: GroupChoice, change: GroupChange) => Effect.Effect<GroupInfo, Refusal>
  /** With what it has handed out. Its key is never given again. */
  readonly delete: (group: GroupChoice) => Effect.Effect<void, Refusal>
  readonly listDeadLetters: (
    group: GroupChoice,
    after: number,
    limit: number
  ) => Effect.Effect<Array<GroupDeadLetter>, Refusal>
  /** Returns how many are handed out again. */
  readonly retryDeadLetters: (
    group: GroupChoice,
    position: number | undefined
  ) => Effect.Effect<number, Refusal>
  /** `undefined` when the group was deleted. */
  readonly setup: (key: number) => Effect.Effect<GroupSetup | undefined, StoreError>
}
