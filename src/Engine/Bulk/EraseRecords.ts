/** What is kept of an operation that erases, while it goes on. */
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

/** What was asked for. */
export interface EraseRequest {
  readonly dryRun: boolean
  readonly cancel: boolean
  readonly compact: boolean
  /** What, until it has ended: it may name the person. */
  readonly erase?: CheckedTarget
  /** A hash of what. */
  readonly target?: string
}

/** The event of which the runs are put together that have received it, and how far: there may be very many. */
export interface Followed {
  readonly event: number
  readonly way: number
  readonly after: number
}

/**
 * How far it has come. `find`: items are put together, from one source after the other. `follow`: what has come of them. `check`: whether
 * any of the runs goes on. `cancel`, `await`: those end, in the order of their keys. `erase`: items, and then `keys`. What is found while
 * it erases is followed too (`isLate`), and not checked: it is left out if it goes on. `forget`: items of a dry run go. `clean`: it is
 * done, and the file is gone over.
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

/** What was found for it in a slice. */
export interface EraseFound {
  /** Positions of the log. */
  readonly events: ReadonlyArray<number>
  /** Keys of runs. */
  readonly runs: ReadonlyArray<number>
  readonly place: ErasePlace
}
