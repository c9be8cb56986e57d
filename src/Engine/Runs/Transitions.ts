/**
 * What a run's status becomes when something happens to it, as one table: the statements that write a status are built from it
 * (`StatusRows.ts`), and so are the refusals.
 *
 * A run holds a lease while it is `running`, and may hold one while it is `compensating`; in no other status. So a pause of a run
 * with a live turn is only asked for, and begins when the turn has ended; and a step is patched, or a run resumed from an
 * earlier step, by calling the live turn back first.
 */
import type { RunStatus } from "../../RunStatus.ts"

/** The status in which a run comes into being. */
export const initialStatus = "pending" satisfies RunStatus

/** The status after each status in which it may happen. */
type Row = { readonly [S in RunStatus]?: RunStatus }

/** Whatever ends a turn but not the run: a run that is rolling back goes on with that in the next turn. */
const endsTurn = { running: "waiting", compensating: "compensating" } as const satisfies Row

export const transitions = {
  /** A worker was given the lease. */
  claimed: { pending: "running", waiting: "running", compensating: "compensating" },
  /** Its journal was found to be too large for a turn when it was to be handed out. */
  outgrown: { pending: "failed", waiting: "failed", compensating: "failed" },

  /** The handler returned. */
  completed: { running: "completed" },
  /** It failed for good, and its compensations, if it has any, have run. */
  failed: { running: "failed", compensating: "failed" },
  /** It failed for good, and its compensations are next. The report of it may come twice. */
  compensationBegan: { running: "compensating", compensating: "compensating" },

  /** The turn ended with nothing left to do but wait. */
  suspended: endsTurn,
  /** Something outside steps failed, and there are attempts left. */
  attemptFailed: endsTurn,
  /** The turn cannot go on before somebody has looked at it. A pause follows. */
  stopped: endsTurn,
  /** The worker gave it back unharmed. */
  released: endsTurn,
  /** The worker is gone, or has let the lease run out. */
  leaseLost: endsTurn,
  /** The lease was taken from a live worker, since the run is to go on from somewhere else. */
  calledBack: endsTurn,

  /** A pause begins: nobody holds the run. */
  paused: { pending: "paused", waiting: "paused", compensating: "paused" },
  /** A pause was asked for while a worker holds the run. */
  pauseAsked: { running: "running", compensating: "compensating" },
  /** That was taken back before the turn had ended. */
  pauseWithdrawn: { running: "running", compensating: "compensating" },
  /** A pause ends. */
  resumed: { paused: "waiting" },
  /** A pause ends that began while the run was rolling back. */
  rollbackResumed: { paused: "compensating" },

  /** Somebody cancelled it, or the run that waits for it. A rollback is not left half done. */
  cancelled: { pending: "cancelled", running: "cancelled", waiting: "cancelled", paused: "cancelled" },
  /** Somebody has it tried again. */
  retried: { failed: "waiting", cancelled: "waiting" }
} as const satisfies { readonly [happening: string]: Row }

/** What can happen to a run. */
export type Happening = keyof typeof transitions

/** What ends a turn but not the run. */
export type TurnEnding = {
  [H in Happening]: (typeof transitions)[H] extends typeof endsTurn
    ? typeof endsTurn extends (typeof transitions)[H]
      ? H
      : never
    : never
}[Happening]

/** The status that comes next; `undefined` when this cannot happen to a run in that status. */
export const nextStatus = (status: RunStatus, happening: Happening): RunStatus | undefined =>
  (transitions[happening] as Row)[status]

/** The statuses in which it can happen. */
export const statusesBefore = (happening: Happening): ReadonlyArray<RunStatus> =>
  // the keys of a row are statuses
  Object.keys(transitions[happening]) as ReadonlyArray<RunStatus>

const verbs: { readonly [H in Happening]: string } = {
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
  calledBack: "be called back",
  paused: "be paused",
  pauseAsked: "be asked to pause",
  pauseWithdrawn: "be told to go on",
  resumed: "be resumed",
  rollbackResumed: "go on rolling back",
  cancelled: "be cancelled",
  retried: "be retried"
}

/** Says of a refused transition what was tried: "Run run_1 is completed and cannot be paused". */
export const refusal = (runId: string, status: RunStatus | undefined, happening: Happening): string =>
  `Run ${runId} is ${status ?? "in no status that exists"} and cannot ${verbs[happening]}`
