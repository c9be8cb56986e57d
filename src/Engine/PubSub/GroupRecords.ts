/** What the store does for those who look after consumer groups. */

import type { GroupSettings } from "../../Protocol/Subscriptions.ts"
import type { LogEntry, LogEntryKind } from "../Log/LogRecords.ts"

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
  /** Pauses the group; one that is paused has the newer reason, if one is given. `null` resumes it. */
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
  readonly environment: string
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

export interface DeliveryResult {
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
  readonly environment: string
  readonly holder: string
  /** Milliseconds from now. */
  readonly ackMs: number
  /** Of this delivery only; else of all that it holds. */
  readonly position?: number
  readonly except?: ReadonlyArray<number>
}
