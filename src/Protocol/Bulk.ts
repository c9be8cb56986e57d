/** Bulk operations: their messages and calls. */
import { BulkNotFoundError, InvalidStateError, ValidationError } from "../Errors.ts"
import {
  oneOfList,
  entries,
  fields,
  nonEmptyText,
  flag,
  integer,
  lenientList,
  list,
  object,
  omittedWhen,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { type ListRuns, ListRunsRequest } from "./RunLists.ts"
import { each, operation, callSpec } from "./CallSpec.ts"

/** The actions of bulk operations. */
export const bulkActions = ["cancel", "retry", "resume", "pause", "rerun", "fork", "move", "delete"] as const

/**
 * `cancel`, `retry`, `resume`, `pause`, `fork` and `move` do what the single-run calls of these names do. `rerun` starts a new
 * run of the same function with the same input, for each ended run. `delete` deletes ended runs, with their steps and logs.
 */
export type BulkAction = (typeof bulkActions)[number]

/** Names of the options of type string that some actions take. */
export type TextOption = "reason" | "fromStep" | "version"

/**
 * First `running`. Then `completed` when all matching runs were processed, `cancelled` by `cancelBulk`, or
 * `stopped` by an `error`. What was changed before a cancellation or an error stays changed.
 */
const bulkStatuses = ["running", "completed", "cancelled", "stopped"] as const
/** Status of a bulk operation. */
export type BulkStatus = (typeof bulkStatuses)[number]

/** A bulk operation and its progress. Times are ISO strings. */
export interface BulkOperation {
  /** Id of the operation, `bulk_...`. */
  readonly id: string
  /** The action on each run; `erase` operations are started by `erase`, all others by `bulk`. */
  readonly action: BulkAction | "erase"
  /** Whether the operation is running, and how it ended. */
  readonly status: BulkStatus
  /** Whether the operation only counts, without changing anything. */
  readonly dryRun: boolean
  /** The filters of the operation, as in `listRuns`; absent if the operation was started with ids. */
  readonly filters?: { readonly [name: string]: unknown }
  /** Number of different ids of runs that were given; absent if the operation was started with filters. */
  readonly ids?: number
  /** The reason given at the start. */
  readonly reason?: string
  /** Name of the step from which runs are retried, resumed or forked. */
  readonly fromStep?: string
  /** The version that runs are moved to; the latest when absent. */
  readonly version?: string
  /** Id of the API key that started the operation, or `local` without a key. */
  readonly by: string
  /**
   * Number of matching runs so far: the sum of `done` and `skipped`. A run that the key may not see or change is not
   * counted if filters have selected it; it counts as skipped if its id was given.
   */
  readonly matched: number
  /** Number of runs that were changed; in a dry run, of runs that would be changed. */
  readonly done: number
  /** Number of runs that were not changed, by reason: their status, `not found`, `not allowed` and others. */
  readonly skipped: { readonly [why: string]: number }
  /** The first twenty skipped runs. */
  readonly examples: Array<BulkExample>
  /** For `erase`: a hash of the operation's id and of the target. The target itself is deleted when the operation ends. */
  readonly target?: string
  /** For `erase`: how many of `done` are `events`, `messages`, `runs`, `keys` and `configs`. */
  readonly kinds?: { readonly [kind: string]: number }
  /**
   * For `erase`: projections that have processed some of the events. Their states may contain the data until they are rebuilt.
   */
  readonly rebuild?: Array<string>
  /** For `erase`: where the data may still be. */
  readonly note?: string
  /**
   * All runs created after this time were processed; absent at the start, and if the operation was started with ids.
   */
  readonly lookedBackTo?: string
  /** Why the operation has stopped. */
  readonly error?: string
  /** When the operation began. */
  readonly createdAt: string
  /** When it last made progress. */
  readonly updatedAt: string
  /** When it ended; absent while it is running. */
  readonly endedAt?: string
}

/** A skipped run. */
export interface BulkExample {
  /** Id of the run. */
  readonly runId: string
  /** Why it was skipped: its status, or a few words. */
  readonly why: string
}

/** A request to start a bulk operation. */
interface StartBulk {
  readonly action: BulkAction
  readonly filters?: ListRuns
  readonly ids?: Array<string>
  readonly reason?: string
  readonly fromStep?: string
  readonly version?: string
  readonly dryRun?: boolean
}

/**
 * Throws `ValidationError` for a member that is null, and for a blank name of a step or version. If such a member were
 * ignored, the operation could change more runs than intended, or change runs that it should only count (`dryRun`).
 */
export const refuseBlankBulkOptions = (options: object): void => {
  for (const [name, value] of Object.entries(options)) {
    const isNameOrVersion = name === "fromStep" || name === "from_step" || name === "version"
    if (value !== null && !(isNameOrVersion && typeof value === "string" && value.trim() === "")) continue
    throw new ValidationError(
      `bulk: \`${name}\` is ${value === null ? "null" : "blank"}: leave it out, or give it a value`
    )
  }
}

const integerOrZero = orElse(integer, 0)

export const Operation = fields<BulkOperation>({
  id: text,
  action: oneOfList([...bulkActions, "erase"]),
  status: oneOfList(bulkStatuses),
  dryRun: orElse(flag, false),
  filters: optional(object),
  ids: optional(integer),
  reason: optional(nonEmptyText),
  fromStep: optional(nonEmptyText),
  version: optional(nonEmptyText),
  by: orElse(text, ""),
  matched: integerOrZero,
  done: integerOrZero,
  skipped: orElse(entries(integer), {}),
  examples: omittedWhen([], lenientList(fields<BulkExample>({ runId: text, why: text }))),
  target: optional(nonEmptyText),
  kinds: optional(entries(integer)),
  rebuild: optional(list(text)),
  note: optional(nonEmptyText),
  lookedBackTo: optional(nonEmptyText),
  error: optional(nonEmptyText),
  createdAt: text,
  updatedAt: text,
  endedAt: optional(nonEmptyText)
})

const StartBulkRequest = fields<StartBulk>({
  action: oneOfList(bulkActions),
  filters: optional(ListRunsRequest),
  ids: optional(list(text)),
  reason: optional(text),
  fromStep: optional(text),
  version: optional(text),
  dryRun: optional(flag)
})

export const startBulk = operation("POST /api/v1/bulk", { answer: Operation, onlyOurEngine: true })
export const listBulk = operation("GET /api/v1/bulk", {
  answer: struct({ operations: omittedWhen([], lenientList(Operation)) }),
  onlyOurEngine: true
})
export const getBulk = operation("GET /api/v1/bulk/:id", {
  answer: Operation,
  notFoundError: BulkNotFoundError,
  onlyOurEngine: true
})
export const cancelBulk = operation("POST /api/v1/bulk/:id/cancel", {
  answer: Operation,
  notFoundError: BulkNotFoundError,
  repeats: true,
  onlyOurEngine: true
})

export const callSpecs = {
  /** Starts an action on all runs that match filters or have one of the ids. Runs on which the key may not carry out the action stay unchanged. */
  startBulk: callSpec(startBulk, each("run:read", "run"), {
    body: StartBulkRequest,
    errors: { 409: InvalidStateError }
  }),
  /** Lists the latest 100 bulk operations, newest first: those of this key, or all of them if it may read all runs. */
  listBulk: callSpec(listBulk, each("run:read", "run")),
  /** Returns a bulk operation and its progress. */
  getBulk: callSpec(getBulk, each("run:read", "run")),
  /** Cancels a bulk operation: it changes no more runs. An operation that has ended stays unchanged. */
  cancelBulk: callSpec(cancelBulk, each("run:read", "run"))
}
