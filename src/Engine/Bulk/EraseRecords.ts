/** Records of an erasure while it runs. */
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import type { SearchPlace } from "../Runs/RunSearchRows.ts"

/** Times are epoch milliseconds. */
export interface CheckedEvents {
  readonly where?: string
  readonly name?: string
  readonly entityId?: string
  readonly entityType?: string
  readonly idempotencyKey?: string
  readonly since?: number
  readonly until?: number
}

export interface CheckedKeys {
  readonly bucket: string
  readonly key?: string
  readonly prefix?: string
}

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
  /** The target, until the operation has ended. It is deleted then, because it may name the person. */
  readonly erase?: CheckedTarget
  /** A hash of the target. */
  readonly target?: string
}

/** An event whose receiving runs are being collected, and how far that has come: there may be very many runs. */
export interface Followed {
  readonly event: number
  readonly way: number
  readonly after: number
}

/**
 * The phase of an erasure. `find`: collects items, source by source. `follow`: adds what has come of the items. `check`: looks for
 * unfinished runs. `cancel`, `await`: end those runs, in the order of their keys. `erase`: erases the items. Items that are found
 * only then are followed too (`isLate`), but not checked: unfinished runs among them are left out. `keys`: erases the keys, and
 * after them the configurations; `index` counts through both lists. `forget`: deletes the items of a dry run. `clean`: everything
 * is erased, and the file is wiped.
 */
export type ErasePlace =
  | {
      readonly phase: "find"
      readonly source: number
      readonly after?: number
      readonly search?: SearchPlace
    }
  | { readonly phase: "follow"; readonly isLate?: true; readonly of?: Followed }
  | { readonly phase: "check"; readonly kind?: "events"; readonly after: number; readonly live: number }
  | { readonly phase: "cancel"; readonly after: number }
  | { readonly phase: "await"; readonly since: number; readonly after?: number; readonly isWaiting?: true }
  | { readonly phase: "erase" }
  | { readonly phase: "keys"; readonly index: number; readonly after?: string }
  | { readonly phase: "forget" }
  | { readonly phase: "clean" }

/** The items that a slice has found. */
export interface EraseFound {
  /** Positions of the log. */
  readonly events: ReadonlyArray<number>
  /** Keys of runs. */
  readonly runs: ReadonlyArray<number>
  readonly place: ErasePlace
}
