/** The types of the stored request and progress of an erasure. */
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import type { SearchPlace } from "../Runs/RunSearchRows.ts"

/** The checked filters of the events to erase. Times are epoch milliseconds. */
export interface CheckedEvents {
  readonly where?: string
  readonly name?: string
  readonly entityId?: string
  readonly entityType?: string
  readonly idempotencyKey?: string
  readonly since?: number
  readonly until?: number
}

/** The KV keys to erase: one key, or all keys with a prefix. */
export interface CheckedKeys {
  readonly bucket: string
  readonly key?: string
  readonly prefix?: string
}

/** The checked target, without the ids of runs. */
export interface CheckedTarget {
  readonly events?: CheckedEvents
  readonly runs?: CheckedFilters
  readonly streams?: ReadonlyArray<string>
  readonly keys?: ReadonlyArray<CheckedKeys>
  readonly configs?: ReadonlyArray<string>
}

/** The checked request. */
export interface EraseRequest {
  readonly dryRun: boolean
  readonly cancel: boolean
  readonly compact: boolean
  /** The target. It is deleted when the operation has ended, because it may name the person whose data was erased. */
  readonly erase?: CheckedTarget
  /** A hash of the target. */
  readonly target?: string
}

/** How far the runs that received an event have been collected: there may be very many. */
export interface FollowPlace {
  /** The position of the event. */
  readonly event: number
  /** The index of the query that is in use: several queries find such runs, one after the other. */
  readonly way: number
  /** The key of the last run that was collected. */
  readonly after: number
}

/**
 * The phase of an erasure. `find`: collects the events and runs to erase (the items), source by source. `follow`: adds the runs
 * that came from the items. `check`: counts the unfinished runs among them. `cancel`: cancels these runs. `await`: waits until
 * they have ended. `erase`: erases the items. Items that appear during `erase` are followed too (`isLate`), but not checked:
 * unfinished runs among them are skipped. `keys`: erases the KV keys, and after them the configurations; `index` counts through
 * both lists. `forget`: deletes the items of a dry run. `clean`: everything is erased, and the files of the database are cleaned.
 */
export type ErasePlace =
  | {
      readonly phase: "find"
      readonly source: number
      readonly after?: number
      readonly search?: SearchPlace
    }
  | { readonly phase: "follow"; readonly isLate?: true; readonly of?: FollowPlace }
  | { readonly phase: "check"; readonly kind?: "events"; readonly after: number; readonly live: number }
  | { readonly phase: "cancel"; readonly after: number }
  | { readonly phase: "await"; readonly since: number; readonly after?: number; readonly isWaiting?: true }
  | { readonly phase: "erase" }
  | { readonly phase: "keys"; readonly index: number; readonly after?: string }
  | { readonly phase: "forget" }
  | { readonly phase: "clean" }

/** The items that a slice has found. */
export interface FoundItems {
  /** Positions of events in the log. */
  readonly events: ReadonlyArray<number>
  /** Keys of runs. */
  readonly runs: ReadonlyArray<number>
  readonly place: ErasePlace
}
