/** Queries about runs, and their results. */
import type { OtherEngine } from "./EngineWorkers.ts"
import type { waitKinds } from "./WaitKinds.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import type { RunningStep } from "../../Protocol/RunningSteps.ts"
import type { RunStep, Run, AuditEvent } from "../../Client/Client.ts"
import type { RunStatus } from "../../RunStatus.ts"
import type { StoredPause } from "../Store/Changes.ts"
import type { Lease } from "./Stuck.ts"
import type { HeldBackSchedule } from "../Functions/FunctionSchedules.ts"

export interface RunSteps {
  readonly steps: ReadonlyArray<RunStep>
  /** The index of the first step of the next page; absent on the last page. */
  readonly next?: number
}

export interface ListRunsQuery {
  readonly environment: string
  readonly functionId?: string
  readonly status?: RunStatus
  readonly limit: number
  readonly cursor?: string
}

/** {@link ListRunsQuery} with the cursor decoded. */
export interface RunsBefore extends Omit<ListRunsQuery, "cursor"> {
  /** Only runs whose key is below this one. */
  readonly before?: number
}

export interface DeletedRuns {
  readonly deleted: number
  /** The key of the last run that was looked at: the next call continues after it. Absent when all runs were looked at. */
  readonly after?: number
}

/** What `explain` needs from the database about a run. */
export interface RunSituation {
  readonly run: Run
  readonly environment: string
  /** The lease, if there is one. A lease that was revoked is set too, while its worker may still be executing the run. */
  readonly lease?: Lease
  /** The engine to which the worker of the lease is connected, when it is not this one. */
  readonly engine?: OtherEngine
  /** Steps whose code runs now, as the worker reports them. */
  readonly running?: ReadonlyArray<RunningStep>
  /** When a step last finished, by the clock of its worker, in epoch milliseconds. */
  readonly lastStepAt?: number
  /** How the run is damaged in the database. The engine does not continue such a run. */
  readonly damage?: string
  /** Since when the run can be claimed, in epoch milliseconds. */
  readonly readyAt?: number
  /**
   * How many workers were lost while they executed the run, since its last completed step. Only set when there are so many
   * losses that the run may be their cause: see `Suspects.ts`.
   */
  readonly losses?: number
  readonly concurrencyKey?: string
  /** How many runs of the same concurrency key have a lease. */
  readonly held: number
  /** The ids of some of those runs. */
  readonly holders: ReadonlyArray<string>
  readonly waits: ReadonlyArray<{
    readonly stepId: string
    readonly name: string
    readonly kind: (typeof waitKinds)[number]
    readonly dueAt?: number
    readonly fired: boolean
    readonly event?: string
    readonly match?: string
    readonly matchValue?: string
    /** Set while an event that the wait may accept is being delivered to many runs. */
    readonly isBeingDelivered?: true
    readonly childRunId?: string
    readonly failures?: number
    readonly error?: string
  }>
  readonly pause?: { readonly code: string; readonly message: string; readonly details?: unknown }
  readonly registration?: FunctionRegistration
  readonly functionDeleted?: boolean
  /** The URL of the push endpoint that had the function before. Only set for a ready run whose function has no endpoint now. */
  readonly formerEndpoint?: string
  /** Set when the function is paused, so that its new runs wait. */
  readonly functionPaused?: StoredPause
  /**
   * The version of the function to which the run is pinned. With `hasBegun: false`, the run is not pinned yet, because it has had
   * no turn since its function pins runs. Then this is the version to which its next turn pins it, if a worker has that version.
   * Absent when a worker of any version can execute the run.
   */
  readonly pin?: { readonly version: string; readonly hasBegun: boolean }
  /** The worker to which the run's actor is bound. */
  readonly actorWorkerId?: string
  /** The schedule that started the run. Only set when fires of this schedule wait, or are skipped, until the run ends. */
  readonly heldBack?: HeldBackSchedule
}

export interface AuditPage {
  readonly events: Array<AuditEvent>
  /** The number of the last event on the page: the next page begins after this event. Absent on the last page. */
  readonly next?: number
}
