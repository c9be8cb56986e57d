/** Records of bulk operations. */
import type { BulkAction, BulkExample, BulkStatus } from "../../Protocol/Bulk.ts"
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import type { SearchPlace } from "../Runs/RunSearchRows.ts"
import type { CheckedTarget, ErasePlace } from "./EraseRecords.ts"

/** The checked request. The given ids are stored separately. */
export interface BulkRequest {
  readonly filters?: CheckedFilters
  readonly reason?: string
  readonly fromStep?: string
  readonly version?: string
  readonly dryRun: boolean
  /** Only for `erase`; see `EraseRequest`. */
  readonly cancel?: boolean
  readonly compact?: boolean
  readonly erase?: CheckedTarget
  readonly target?: string
}

/** How far an operation has come: in a search, in the list of ids, or in an erasure. */
export type BulkPlace = SearchPlace | { readonly index: number } | ErasePlace

export interface BulkProgress {
  readonly matched: number
  readonly done: number
  readonly skipped: { readonly [why: string]: number }
  readonly examples: ReadonlyArray<BulkExample>
  /** Epoch milliseconds. */
  readonly lookedBackTo?: number
  /** Only for `erase`: how many items of each kind are done, which projections to rebuild, and what remains. */
  readonly kinds?: { readonly [kind: string]: number }
  readonly rebuild?: ReadonlyArray<string>
  readonly note?: string
}

/** Times are epoch milliseconds. */
export interface BulkRecord extends BulkProgress {
  readonly id: string
  readonly environment: string
  readonly action: BulkAction | "erase"
  readonly status: BulkStatus
  readonly asked: BulkRequest
  /** How many ids were given. */
  readonly idCount?: number
  /** The id of the API key that began it; absent without one. */
  readonly byKey?: string
  readonly place?: BulkPlace
  readonly error?: string
  readonly createdAt: number
  readonly updatedAt: number
  readonly endedAt?: number
}

/**
 * A run to act on. `endedAt` is the end of the run as the search has found it, epoch milliseconds; `null` for an unfinished run,
 * absent for a run that was given by id.
 */
export interface BulkItem {
  readonly runId: string
  readonly endedAt?: number | null
  /** Act only if the run is paused: the caller may resume it, but not retry it. */
  readonly onlyPaused?: true
  /** The caller may not read the run, so it counts as missing. */
  readonly isHidden?: true
}

/** A slice of work. */
export interface BulkSlice {
  readonly items: ReadonlyArray<BulkItem>
  /** Given ids of runs on which the caller may not carry out the action. */
  readonly notAllowed: ReadonlyArray<string>
  /** Where the next slice begins. */
  readonly place: BulkPlace
  readonly lookedBackTo?: number
  readonly isLast: boolean
}
