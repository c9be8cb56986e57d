/** The arguments and results of the database code of consumer groups: groups, claims, deliveries and dead letters. */

import type { GroupSettings } from "../../Protocol/Subscriptions.ts"
import type { LogEntry, LogEntryKind } from "../Log/LogRecords.ts"

/** The settings that were given for a group. The engine's default applies for each absent setting. */
export type StoredSettings = Partial<GroupSettings>

/**
 * A group by its name. The name is enough when only one pattern has a group of this name. Otherwise the pattern is needed too.
 */
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

/** A change of a group. Absent members stay as they are; `null` removes them. */
export interface GroupChange {
  readonly filter?: string | null
  readonly settings?: { readonly [Name in keyof StoredSettings]?: StoredSettings[Name] | null }
  readonly metadata?: string | null
  /** Pauses the group. A group that is already paused gets the newer reason, if one is given. `null` ends the pause. */
  readonly paused?: { readonly by: string; readonly reason?: string } | null
}

export interface ListGroupsQuery {
  readonly environment: string
  readonly namespace?: string
  readonly name?: string
  readonly isPaused?: boolean
  /** The key of the group after which the page begins; 0 for the first page. */
  readonly after: number
  readonly limit: number
}

/** The setup of a group, as its members need it. */
export interface GroupSetup {
  readonly filter?: string
  readonly settings: StoredSettings
  readonly isPaused: boolean
  /** Whether a client has created or updated the group. If so, members cannot change its filter. */
  readonly isConfigured: boolean
}

/** All about a group. Times are epoch milliseconds. */
export interface GroupInfo extends GroupSetup {
  readonly key: number
  readonly namespace: string
  readonly name: string
  readonly pattern: string
  readonly metadata?: string
  /** The position up to which everything was delivered or skipped. */
  readonly position: number
  /** The position after which the group began; absent for a group that an older version of the engine created. */
  readonly beginning?: number
  /** How many events after the position match the pattern, whether they pass the filter or not. */
  readonly lag: number
  /** The newest event that matches the pattern, and whether it passes the filter. Absent while there is a lag. */
  readonly newest?: {
    readonly position: number
    readonly name: string
    readonly at: number
    readonly passes: boolean
  }
  readonly inFlight: number
  /** How many deliveries have no holder: they wait to be delivered again. */
  readonly retrying: number
  readonly nextRetryAt?: number
  /** How many deliveries were given up, except those that a client has retried since. */
  readonly givenUp: number
  /** How many of the deliveries that were given up can be retried, because their events still exist. */
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
  /** The pattern with its prefix, as in the subscription. */
  readonly pattern: string
  /** The kind of rows that members get; absent when they get both events and messages. */
  readonly kind?: LogEntryKind
  /** The part of the pattern that names must match. */
  readonly names: string
  /**
   * A CEL expression. If the group exists, it replaces the group's filter for everything that is not delivered yet, unless the
   * group is configured.
   */
  readonly filter?: string
  /** The position after which a new group begins; by default the end of the log. */
  readonly after?: number
}

export interface GroupState extends GroupSetup {
  readonly key: number
  readonly isNew: boolean
  /** The position up to which everything was delivered or skipped. */
  readonly cursor: number
}

export interface GroupDemand {
  readonly environment: string
  readonly group: number
  readonly members: ReadonlyArray<{
    readonly holder: string
    /** How many more deliveries the member can take now. */
    readonly credit: number
    /** How long the member may take to ack a delivery, in milliseconds. */
    readonly ackMs: number
    /**
     * Whether the member let a delivery time out and has sent nothing since. It gets nothing while another member is not silent.
     */
    readonly isSilent?: boolean
    /** Whether the member reports that it works on events. If so, it gets nothing while it is silent. */
    readonly reportsProgress?: boolean
  }>
  /** A delivery with more failures than this is given up. */
  readonly maxRedeliveries: number
}

export interface ClaimedDelivery {
  readonly holder: string
  /** The number of the attempt: 1 at first, and one more with every redelivery after a failure. */
  readonly attempt: number
  readonly entry: LogEntry
}

export interface GroupClaim {
  readonly deliveries: ReadonlyArray<ClaimedDelivery>
  /** The deliveries that were given up, each with the id of its event and the number of its attempts. */
  readonly givenUp: ReadonlyArray<{
    readonly position: number
    readonly id: string
    readonly attempts: number
  }>
  /** Holders that let a delivery time out, now or earlier, and have sent nothing since. */
  readonly silentHolders: ReadonlyArray<string>
  /** Whether another claim may give out more at once. */
  readonly mayFindMore: boolean
  /** When the next delivery becomes due again, in epoch milliseconds; `Infinity` when there is none. */
  readonly nextDueAt: number
}

export interface DeliveryResult {
  readonly group: number
  readonly position: number
  readonly holder: string
  /** Set when the delivery has failed; absent when it is done. */
  readonly failed?: {
    /** When to deliver the item again; absent to give the item up at once. */
    readonly redelivery?: Redelivery
    readonly reason?: string
  }
}

/**
 * When a failed delivery is due again: the first time after `firstMs`, then after twice as long each time, at most after
 * `longestMs`.
 */
export interface Redelivery {
  readonly firstMs: number
  readonly longestMs: number
  /** A delivery with more failures than this is given up. */
  readonly maxRedeliveries: number
}

/** A request of a holder for more time to ack its deliveries. */
export interface Extension {
  readonly environment: string
  readonly holder: string
  /** How much time the deliveries have from now on, in milliseconds. */
  readonly ackMs: number
  /**
   * The position of the only delivery to extend. When absent, all deliveries of the holder are extended, except those in
   * `except`.
   */
  readonly position?: number
  /** Positions of deliveries that are not extended. */
  readonly except?: ReadonlyArray<number>
}
