/** Records of consumer group management. */

import type { GroupSettings } from "../../Protocol/Subscriptions.ts"
import type { LogEntry, LogEntryKind } from "../Log/LogRecords.ts"

/** The settings as given; absent ones take the engine's default. */
export type StoredSettings = Partial<GroupSettings>

/** A group by its name. The name is enough when it has one pattern; otherwise the pattern is needed too. */
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
  /** JSON string. */
  readonly metadata?: string
}

/** Absent members stay as they are; `null` removes them. */
export interface GroupChange {
  readonly filter?: string | null
  readonly settings?: { readonly [Name in keyof StoredSettings]?: StoredSettings[Name] | null }
  readonly metadata?: string | null
  /** Pauses the group, or gives a paused group the newer reason, if there is one. `null` resumes it. */
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

/** The setup of a group, as its members need it. */
export interface GroupSetup {
  readonly filter?: string
  readonly settings: StoredSettings
  readonly isPaused: boolean
  /** A client has created or updated it: members cannot change its filter. */
  readonly isConfigured: boolean
}

export interface GroupInfo extends GroupSetup {
  readonly key: number
  readonly namespace: string
  readonly name: string
  readonly pattern: string
  readonly metadata?: string
  /** Everything up to here was delivered or skipped. */
  readonly position: number
  /** Where it began; absent for old groups. */
  readonly beginning?: number
  /** Events after the position that match the pattern, with or without passing the filter. */
  readonly lag: number
  /** The newest event that matches the pattern, and whether it passes the filter; absent while there is a lag. */
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
  /** Those of them that can be retried. */
  readonly deadLetters: number
  readonly paused?: { readonly by: string; readonly at: number; readonly reason?: string }
  readonly createdAt: number
  readonly updatedAt: number
  readonly usedAt: number
}

/** A dead letter of a group. */
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
  /** With its prefix, as in the subscription. */
  readonly pattern: string
  /** The kind of rows that members get; absent for both events and messages. */
  readonly kind?: LogEntryKind
  /** The part of the pattern that names must match. */
  readonly names: string
  /** CEL. A new filter applies to everything that is not delivered yet, unless the group is configured. */
  readonly filter?: string
  /** The position after which a new group begins; by default the end of the log. */
  readonly after?: number
}

export interface GroupState extends GroupSetup {
  readonly key: number
  readonly isNew: boolean
  /** Everything up to here was delivered or skipped. */
  readonly cursor: number
}

export interface GroupDemand {
  readonly environment: string
  readonly group: number
  readonly members: ReadonlyArray<{
    readonly holder: string
    readonly credit: number
    readonly ackMs: number
    /** It let a delivery time out, and has sent nothing since: other members come first. */
    readonly isSilent?: boolean
    /** It reports that it works on events, so it gets nothing while it is silent. */
    readonly speaks?: boolean
  }>
  /** Deliveries with more failures are given up. */
  readonly maxRedeliveries: number
}

export interface ClaimedDelivery {
  readonly holder: string
  /** 1 at first; one more with every redelivery after a failure. */
  readonly attempt: number
  readonly entry: LogEntry
}

export interface GroupClaim {
  readonly deliveries: ReadonlyArray<ClaimedDelivery>
  /** The deliveries that were given up, with their last holders. */
  readonly exhausted: ReadonlyArray<{
    readonly position: number
    readonly id: string
    readonly attempts: number
  }>
  /** Holders that let a delivery time out. */
  readonly silent: ReadonlyArray<string>
  /** Whether there may be more at once. */
  readonly more: boolean
  /** When the next delivery becomes due again, epoch milliseconds; `Infinity` when there is none. */
  readonly nextDueAt: number
}

export interface DeliveryResult {
  readonly group: number
  readonly position: number
  readonly holder: string
  /** Absent: the delivery is done. */
  readonly failed?: {
    /** Absent: the delivery is given up at once. */
    readonly redelivery?: Redelivery
    readonly reason?: string
  }
}

/** When a failed delivery is due again: first after `firstMs`, then twice as long each time, at most `longestMs`. */
export interface Redelivery {
  readonly firstMs: number
  readonly longestMs: number
  /** Deliveries with more failures than this are given up. */
  readonly maxRedeliveries: number
}

/** An extension by a holder. */
export interface Extension {
  readonly environment: string
  readonly holder: string
  /** Milliseconds from now. */
  readonly ackMs: number
  /** Only this delivery; without it all that it holds. */
  readonly position?: number
  readonly except?: ReadonlyArray<number>
}
