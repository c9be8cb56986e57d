/** One thing done to many runs: how it travels, and the calls about it. */
import { BulkNotFoundError, InvalidStateError, ValidationError } from "../Errors.ts"
import {
  among,
  entries,
  fields,
  filled,
  flag,
  integer,
  list,
  object,
  optional,
  orElse,
  some,
  struct,
  text,
  unless
} from "./Codec.ts"
import { type ListRuns, ListRunsRequest } from "./RunLists.ts"
import { each, operation, row } from "./Row.ts"

/** What can be done to many runs. */
export const bulkActions = ["cancel", "retry", "resume", "pause", "rerun", "fork", "move", "delete"] as const

/**
 * `cancel`, `retry`, `resume`, `pause`, `fork` and `move` are what the calls of these names do to one run. `rerun` makes a new run of the
 * same function with the same input, of runs that have ended. `delete` takes runs away that have ended, with their steps and logs.
 */
export type BulkAction = (typeof bulkActions)[number]

/** What may be said to some actions, each a text. */
export type BulkWord = "reason" | "fromStep" | "version"

/**
 * `running`, then one of: `completed`, when all runs that fit have been looked at; `cancelled`, by `cancelBulk`; `stopped`, when it could
 * not go on, as `error` says. What was done by then stays done.
 */
const bulkStatuses = ["running", "completed", "cancelled", "stopped"] as const
/** Whether a bulk operation is under way, and how it ended. */
export type BulkStatus = (typeof bulkStatuses)[number]

/** A bulk operation, and how far it has come. Times are ISO strings. */
export interface BulkOperation {
  /** `bulk_...` */
  readonly id: string
  /** What is done to each run; `erase` is begun by the call of this name, and the others by `bulk`. */
  readonly action: BulkAction | "erase"
  /** Whether it is under way, and how it ended. */
  readonly status: BulkStatus
  /** It counts and changes nothing. */
  readonly dryRun: boolean
  /** What runs were asked for by, as `listRuns` is given it; absent when that was ids. */
  readonly filters?: { readonly [name: string]: unknown }
  /** How many ids were given, each once; absent when runs were asked for by filters. */
  readonly ids?: number
  /** Why, as whoever began it has said. */
  readonly reason?: string
  /** The step from which runs are retried or resumed. */
  readonly fromStep?: string
  /** The version of the code that runs are moved to; the latest one when absent. */
  readonly version?: string
  /** Who began it: the id of an API key, or `local` without one. */
  readonly by: string
  /** Runs that fit so far, without those that whoever began it may not see, or not do this to: `done`, and all of `skipped`. */
  readonly matched: number
  /** Runs to which it was done; those to which it would be done, when it is a dry run. */
  readonly done: number
  /** How many it was not done to, by why: the status that they are in, `not found`, `not allowed` and others. */
  readonly skipped: { readonly [why: string]: number }
  /** The first twenty of those. */
  readonly examples: Array<BulkExample>
  /** Of `erase`: a hash of its id and of what was asked for, which is itself forgotten with the end. */
  readonly target?: string
  /** Of `erase`: how many of `done` are `events`, `messages`, `runs`, `keys` and `configs`. */
  readonly kinds?: { readonly [kind: string]: number }
  /** Of `erase`: projections that have seen some of the events, whose states may have of their data until they are rebuilt. */
  readonly rebuild?: Array<string>
  /** Of `erase`: what may still have the data. */
  readonly note?: string
  /** All runs that were created later have been looked at; absent at the beginning, and for ids. */
  readonly lookedBackTo?: string
  /** Why it has stopped. */
  readonly error?: string
  /** When it began. */
  readonly createdAt: string
  /** When it last came further. */
  readonly updatedAt: string
  /** When it ended; absent while it is under way. */
  readonly endedAt?: string
}

/** A run that something was not done to. */
export interface BulkExample {
  /** Id of the run. */
  readonly runId: string
  /** Why not: the status that it is in, or a few words. */
  readonly why: string
}

/** What is asked for. */
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
 * Throws `ValidationError` for a member that says nothing: to pass it over would be to do something else, or to do it where it was only to be
 * counted. An empty reason is none.
 */
export const checkBulkSaid = (given: object): void => {
  for (const [name, value] of Object.entries(given)) {
    const isNamed = name === "fromStep" || name === "from_step" || name === "version"
    if (value !== null && !(isNamed && typeof value === "string" && value.trim() === "")) continue
    throw new ValidationError(
      `bulk: \`${name}\` is ${value === null ? "null" : "blank"}, which says nothing: leave it out, or give it a value`
    )
  }
}

const zero = orElse(integer, 0)

export const Operation = fields<BulkOperation>({
  id: text,
  action: among([...bulkActions, "erase"]),
  status: among(bulkStatuses),
  dryRun: orElse(flag, false),
  filters: optional(object),
  ids: optional(integer),
  reason: optional(filled),
  fromStep: optional(filled),
  version: optional(filled),
  by: orElse(text, ""),
  matched: zero,
  done: zero,
  skipped: orElse(entries(integer), {}),
  examples: unless([], some(fields<BulkExample>({ runId: text, why: text }))),
  target: optional(filled),
  kinds: optional(entries(integer)),
  rebuild: optional(list(text)),
  note: optional(filled),
  lookedBackTo: optional(filled),
  error: optional(filled),
  createdAt: text,
  updatedAt: text,
  endedAt: optional(filled)
})

const StartBulkRequest = fields<StartBulk>({
  action: among(bulkActions),
  filters: optional(ListRunsRequest),
  ids: optional(list(text)),
  reason: optional(text),
  fromStep: optional(text),
  version: optional(text),
  dryRun: optional(flag)
})

export const startBulk = operation("POST /api/v1/bulk", { answer: Operation, ours: true })
export const listBulk = operation("GET /api/v1/bulk", {
  answer: struct({ operations: unless([], some(Operation)) }),
  ours: true
})
export const getBulk = operation("GET /api/v1/bulk/:id", {
  answer: Operation,
  missing: BulkNotFoundError,
  ours: true
})
export const cancelBulk = operation("POST /api/v1/bulk/:id/cancel", {
  answer: Operation,
  missing: BulkNotFoundError,
  repeats: true,
  ours: true
})

export const rows = {
  /** Begins to do something to all runs that fit filters, or have one of the ids; its key needs the action for each of them too. */
  startBulk: row(startBulk, each("run:read", "run"), {
    body: StartBulkRequest,
    errors: { 409: InvalidStateError }
  }),
  /** What was begun so, the newest first, at most 100: those of the same key, and all for a key that may read all runs. */
  listBulk: row(listBulk, each("run:read", "run")),
  /** One of them, and how far it has come. */
  getBulk: row(getBulk, each("run:read", "run")),
  /** Ends one: no more runs are touched. One that has ended stays as it is. */
  cancelBulk: row(cancelBulk, each("run:read", "run"))
}
