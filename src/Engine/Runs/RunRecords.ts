/** Queries about runs, and their results. */
import type { OtherEngine } from "./EngineWorkers.ts"
import type { waitKinds } from "./WaitKinds.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import type { RunningStep } from "../../Protocol/RunningSteps.ts"
import type { RunStep, Run, AuditEvent } from "../../Client/Client.ts"
import type { RunStatus } from "../../RunStatus.ts"
import type { StoredPause } from "../Store/Changes.ts"
import type { Lease } from "./Stuck.ts"
import type { HeldBack } from "../Functions/FunctionSchedules.ts"

export interface RunSteps {
  readonly steps: ReadonlyArray<RunStep>
  /** The cursor of the next page; absent at the end. */
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
  /** Only runs before the one with this key. */
  readonly before?: number
}

export interface DeletedRuns {
  readonly deleted: number
  /** The key of the last run that was looked at: the next call goes on after it. Absent at the end. */
  readonly after?: number
}

/** What `explain` needs from the database about a run. */
export interface RunSituation {
  readonly run: Run
  readonly environment: string
  /** The lease, if there is one: live, or revoked while its worker may still work on the turn. */
  readonly lease?: Lease
  /** The engine to which the worker of the lease is connected, when it is not this one. */
  readonly engine?: OtherEngine
  /** Steps whose code runs now, as the worker reports. */
  readonly running?: ReadonlyArray<RunningStep>
  /** When a step last finished, by the clock of its worker, epoch milliseconds. */
  readonly lastStepAt?: number
  /** Why the engine leaves the run alone: its damage. */
  readonly damage?: string
  /** Since when the run can be claimed, epoch milliseconds. */
  readonly readyAt?: number
  /** How often the run was lost since its last step. Set while it is kept apart from other runs because of that. */
  readonly losses?: number
  readonly concurrencyKey?: string
  /** How many runs hold a lease under the run's concurrency key. */
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
    /** Set when events that the wait may accept are in the log, and are still being delivered. */
    readonly isBeingDelivered?: true
    readonly childRunId?: string
    readonly failures?: number
    readonly error?: string
  }>
  readonly pause?: { readonly code: string; readonly message: string; readonly details?: unknown }
  readonly registration?: FunctionRegistration
  readonly functionDeleted?: boolean
  /** Set when the function is paused, so that its new runs wait. */
  readonly functionPaused?: StoredPause
  /** The function version that the run is pinned to, or starts with when a worker has it. Absent when any version will do. */
  readonly pin?: { readonly version: string; readonly hasBegun: boolean }
  /** The worker to which the run's actor is bound. */
  readonly actorWorkerId?: string
  /** The schedule that started the run, when its fires wait or are skipped until the run ends. */
  readonly heldBack?: HeldBack
}

export interface AuditPage {
  readonly events: Array<AuditEvent>
  /** The number of the last event on the page: the next page comes after it. Absent at the end. */
  readonly next?: number
}
