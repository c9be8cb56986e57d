/** What is kept of a bulk operation. */
import type { BulkAction, BulkExample, BulkStatus } from "../../Protocol/Bulk.ts"
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import type { SearchPlace } from "../Runs/RunSearchRows.ts"
import type { CheckedTarget, ErasePlace } from "./EraseRecords.ts"

/** What was asked for, checked, besides ids. */
export interface BulkRequest {
  readonly filters?: CheckedFilters
  readonly reason?: string
  readonly fromStep?: string
  readonly version?: string
  readonly dryRun: boolean
  /** What is only for `erase`: see `EraseRequest`. */
  readonly cancel?: boolean
  readonly compact?: boolean
  readonly erase?: CheckedTarget
  readonly target?: string
}

/** How far it has come: in a search, or in the list of ids. */
export type BulkPlace = SearchPlace | { readonly index: number } | ErasePlace

export interface BulkProgress {
  readonly matched: number
  readonly done: number
  readonly skipped: { readonly [why: string]: number }
  readonly examples: ReadonlyArray<BulkExample>
  /** Epoch milliseconds. */
  readonly lookedBackTo?: number
  /** Of `erase`: how many of `done` are of which kind, projections to rebuild, and what is left. */
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

/** A run that it is to be done to. `endedAt` is what was seen when it was found to fit; absent for one that was named. */
export interface BulkItem {
  readonly runId: string
  readonly endedAt?: number | null
  /** Only if it is paused: whoever began it may resume it, and is denied to retry it. */
  readonly onlyPaused?: true
  /** Whoever began it may not read it: for them there is no such run. */
  readonly isHidden?: true
}

/** A slice of work. */
export interface BulkSlice {
  readonly items: ReadonlyArray<BulkItem>
  /** Ids that were given, of runs that whoever began it may not do this to. */
  readonly notAllowed: ReadonlyArray<string>
  /** Where the next slice begins. */
  readonly place: BulkPlace
  readonly lookedBackTo?: number
  readonly isLast: boolean
}
