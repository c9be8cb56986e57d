/**
 * The column `runs.status`: how statuses are stored, and the parts of the SQL statements that change a status. These parts are
 * built from the table of transitions. Such a statement names the statuses that its transition allows, and does not change a run
 * with any other status.
 */
import { get, statement, type Program } from "../Store/Program.ts"
import { StoreError } from "../../Errors.ts"
import { type RunStatus, runStatuses } from "../../RunStatus.ts"
import { type TransitionName, nextStatus, refusal, statusesBefore, transitions } from "./Transitions.ts"
import type { Row } from "../Store/Transaction.ts"

/** How statuses are stored. The numbers are part of the database. */
export const Status = {
  pending: 0,
  running: 1,
  waiting: 2,
  compensating: 3,
  paused: 4,
  completed: 5,
  failed: 6,
  cancelled: 7
} as const satisfies { readonly [S in RunStatus]: number }

const byNumber: ReadonlyArray<RunStatus | undefined> = runStatuses.reduce<Array<RunStatus | undefined>>(
  (list, status) => {
    list[Status[status]] = status
    return list
  },
  []
)

/** The status in a row of `runs`; `undefined` when the stored number is invalid. */
export const statusIn = (row: Row | undefined): RunStatus | undefined =>
  row === undefined ? undefined : byNumber[Number(row.status)]

/** Statuses as the list of an SQL `IN`. */
export const sqlListOf = (statuses: ReadonlyArray<RunStatus>): string =>
  statuses.map((status) => Status[status]).join(", ")

/** The two parts of a statement that writes a status. */
interface Move {
  /** The assignment of the new status. */
  readonly set: string
  /** The condition that the current status allows the transition. */
  readonly where: string
}

const move = (transition: TransitionName): Move => {
  const before = statusesBefore(transition)
  const next = (status: RunStatus): RunStatus => nextStatus(status, transition)!
  const targets = new Set(before.map(next))
  const [target] = targets
  return {
    set:
      targets.size === 1 && target !== undefined
        ? `status = ${Status[target]}`
        : `status = CASE status ${before.map((status) => `WHEN ${Status[status]} THEN ${Status[next(status)]}`).join(" ")} END`,
    where: `status IN (${sqlListOf(before)})`
  }
}

/** The parts of the statement for each transition. */
export const moves = Object.fromEntries(
  // the keys are those of the table of transitions
  (Object.keys(transitions) as ReadonlyArray<TransitionName>).map((transition) => [
    transition,
    move(transition)
  ])
) as { readonly [H in TransitionName]: Move }

const FIND_STATUS = statement("StatusRows.findStatus", "SELECT id, status FROM runs WHERE key = ?")

/**
 * Throws when a statement with {@link moves} has changed no row: the run does not have the status that the code expected.
 * `changed` is the number of rows, or the row of a `RETURNING`.
 */
export function* mustMove(
  run: number,
  transition: TransitionName,
  changed: number | Row | undefined
): Program<void> {
  if (changed !== undefined && changed !== 0) return
  const row = yield* get(FIND_STATUS, run)
  const status = statusIn(row)
  const why =
    row === undefined
      ? `The run with the key ${run} is missing in the database`
      : refusal(String(row.id), status, transition)
  throw new StoreError(
    `${why}. Nothing was written. Either something else writes to the database of the engine, which must not happen, or the ` +
      "engine has a bug: please report it",
    // the stored number stands for no status: this engine never writes such a number
    row !== undefined && status === undefined ? { code: "STORE_CORRUPT" } : {}
  )
}
