/**
 * The table of status transitions of a run. The SQL statements that change a status (`StatusRows.ts`) and the messages of refused
 * calls are built from this table.
 *
 * A run always holds a lease while it is `running`, may hold one while it is `compensating`, and holds none in any other status.
 * So while a worker executes a run, a pause is only requested, and begins when the turn has ended. (A turn is the time between
 * two waits of a run, in which a worker executes it.) Before a step is patched, or a run is resumed from an earlier step, the
 * lease of such a worker is revoked.
 */
import type { RunStatus } from "../../RunStatus.ts"

/** The status of a new run. */
export const initialStatus = "pending" satisfies RunStatus

/** The next status, for each status from which the transition is allowed. */
type NextStatuses = { readonly [S in RunStatus]?: RunStatus }

/** Transitions that end a turn but not the run: a run that is rolling back continues its rollback in the next turn. */
const turnEnd = { running: "waiting", compensating: "compensating" } as const satisfies NextStatuses

export const transitions = {
  /** A worker has claimed the run. */
  claimed: { pending: "running", waiting: "running", compensating: "compensating" },
  /** The run was about to be dispatched, but its journal is too large for a turn. */
  outgrown: { pending: "failed", waiting: "failed", compensating: "failed" },

  /** The handler returned. */
  completed: { running: "completed" },
  /** The run failed for good, and its compensations, if any, have run. */
  failed: { running: "failed", compensating: "failed" },
  /** The run failed for good, and its compensations are next. The worker's report of this may arrive twice. */
  compensationBegan: { running: "compensating", compensating: "compensating" },

  /** The turn ended and the run waits. */
  suspended: turnEnd,
  /** The code of the handler failed outside of steps, and the run has attempts left. */
  attemptFailed: turnEnd,
  /** The run cannot continue until a person has looked at it. A pause follows. */
  stopped: turnEnd,
  /** The worker gave the run back without a failure. */
  released: turnEnd,
  /** The worker is gone, or let the lease expire. */
  leaseLost: turnEnd,
  /** The engine revoked the lease, because the run is to be paused, was patched, or is to continue from another step. */
  leaseRevoked: turnEnd,

  /** A pause begins: no worker holds the run. */
  paused: { pending: "paused", waiting: "paused", compensating: "paused" },
  /** A pause was requested while a worker holds the run. */
  pauseAsked: { running: "running", compensating: "compensating" },
  /** The requested pause was withdrawn before the turn ended. */
  pauseWithdrawn: { running: "running", compensating: "compensating" },
  /** A pause ends. */
  resumed: { paused: "waiting" },
  /** The end of a pause that began while the run was rolling back. */
  rollbackResumed: { paused: "compensating" },

  /** A client cancelled the run, or the run that waits for it was cancelled. A rollback is not left half done. */
  cancelled: { pending: "cancelled", running: "cancelled", waiting: "cancelled", paused: "cancelled" },
  /** A client retries the run. */
  retried: { failed: "waiting", cancelled: "waiting" }
} as const satisfies { readonly [name: string]: NextStatuses }

/** The names of the transitions. */
export type TransitionName = keyof typeof transitions

/** Transitions that end a turn but not the run. */
export type TurnEnding = {
  [H in TransitionName]: (typeof transitions)[H] extends typeof turnEnd
    ? typeof turnEnd extends (typeof transitions)[H]
      ? H
      : never
    : never
}[TransitionName]

/** The next status; `undefined` when the transition is not allowed from this status. */
export const nextStatus = (status: RunStatus, transition: TransitionName): RunStatus | undefined =>
  (transitions[transition] as NextStatuses)[status]

/** The statuses from which the transition is allowed. */
export const statusesBefore = (transition: TransitionName): ReadonlyArray<RunStatus> =>
  // the keys of a row are statuses
  Object.keys(transitions[transition]) as ReadonlyArray<RunStatus>

const verbs: { readonly [H in TransitionName]: string } = {
  claimed: "be handed out",
  outgrown: "fail for the size of its journal",
  completed: "complete",
  failed: "fail",
  compensationBegan: "begin to roll back",
  suspended: "be suspended",
  attemptFailed: "end an attempt",
  stopped: "be stopped by its turn",
  released: "be given back",
  leaseLost: "lose its lease",
  leaseRevoked: "have its lease revoked",
  paused: "be paused",
  pauseAsked: "be asked to pause",
  pauseWithdrawn: "be told to go on",
  resumed: "be resumed",
  rollbackResumed: "go on rolling back",
  cancelled: "be cancelled",
  retried: "be retried"
}

/** The message for a refused transition, such as "Run run_1 is completed and cannot be paused". */
export const refusal = (runId: string, status: RunStatus | undefined, transition: TransitionName): string =>
  `Run ${runId} is ${status ?? "in no status that exists"} and cannot ${verbs[transition]}`

/** What to do with a run that cannot be retried, as a sentence. */
export const insteadOfRetry = (runId: string, status: RunStatus | undefined): string => {
  if (status === "paused") return "Resume it instead."
  return status === "completed"
    ? `For a new run with the same input, use \`ironflow runs rerun ${runId}\`, or \`client.bulk("rerun", ...)\`.`
    : "It has not ended yet: wait until it has."
}
