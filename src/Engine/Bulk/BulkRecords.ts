/** The types of the stored records of bulk operations, and of the slices in which an operation is carried out. */
import type { BulkAction, BulkExample, BulkStatus } from "../../Protocol/Bulk.ts"
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import type { SearchPlace } from "../Runs/RunSearchRows.ts"
import type { CheckedTarget, ErasePlace } from "./EraseRecords.ts"

/** The checked request. The ids of a request that names its runs by id are stored separately. */
export interface BulkRequest {
  readonly filters?: CheckedFilters
  readonly reason?: string
  readonly fromStep?: string
  readonly version?: string
  readonly dryRun: boolean
  /** Only for `erase`: see `EraseRequest` in `EraseRecords.ts`. */
  readonly cancel?: boolean
  /** Only for `erase`. */
  readonly compact?: boolean
  /** Only for `erase`: the target. */
  readonly erase?: CheckedTarget
  /** Only for `erase`: a hash of the target. */
  readonly target?: string
}

/** How far an operation has come: in a search, in the list of ids, or in an erasure. */
export type BulkPlace = SearchPlace | { readonly index: number } | ErasePlace

export interface BulkProgress {
  readonly matched: number
  readonly done: number
  readonly skipped: { readonly [why: string]: number }
  readonly examples: ReadonlyArray<BulkExample>
  /**
   * All runs that were created after this time have been processed. Epoch milliseconds; absent at the start, and for a request
   * with ids.
   */
  readonly lookedBackTo?: number
  /** Only for `erase`: how many items of each kind are done. */
  readonly kinds?: { readonly [kind: string]: number }
  /** Only for `erase`: the names of the projections to rebuild. */
  readonly rebuild?: ReadonlyArray<string>
  /** Only for `erase`: where the data may still be. */
  readonly note?: string
}

/** Times are epoch milliseconds. */
export interface BulkRecord extends BulkProgress {
  readonly id: string
  readonly environment: string
  readonly action: BulkAction | "erase"
  readonly status: BulkStatus
  readonly request: BulkRequest
  /** How many ids the request named; absent for a request with filters. */
  readonly idCount?: number
  /** The id of the API key that began the operation; absent when it was begun without a key. */
  readonly byKey?: string
  readonly place?: BulkPlace
  readonly error?: string
  readonly createdAt: number
  readonly updatedAt: number
  readonly endedAt?: number
}

/**
 * A run to act on. `endedAt` is when the run had ended, as the search saw it, in epoch milliseconds: `null` for an unfinished
 * run, absent for a run that the request names by id.
 */
export interface BulkItem {
  readonly runId: string
  readonly endedAt?: number | null
  /** For `resume`: act only if the run is paused, since the caller has no permission to retry runs that have ended. */
  readonly onlyPaused?: true
  /** The caller has no permission to read the run, so the run counts as not found. */
  readonly isHidden?: true
}

/** The runs on which one transaction acts. */
export interface BulkSlice {
  readonly items: ReadonlyArray<BulkItem>
  /** Ids from the request, of runs on which the caller may not carry out the action. */
  readonly notAllowed: ReadonlyArray<string>
  /** Where the next slice begins. */
  readonly place: BulkPlace
  /** See {@link BulkProgress.lookedBackTo}. */
  readonly lookedBackTo?: number
  readonly isLast: boolean
}
