/** What is asked of runs, and what comes back. */
import type { OtherEngine } from "./NodeWorkers.ts"
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
  /** Where to go on; absent at the end. */
  readonly next?: number
}

export interface ListRunsQuery {
  readonly environment: string
  readonly functionId?: string
  readonly status?: RunStatus
  readonly limit: number
  readonly cursor?: string
}

/** The same, of which the cursor was read. */
export interface RunsBefore extends Omit<ListRunsQuery, "cursor"> {
  /** Only runs before the one of this number. */
  readonly before?: number
}

export interface DeletedRuns {
  readonly deleted: number
  /** Where to go on; absent at the end. */
  readonly after?: number
}

/** What `explain` needs to know about a run that is in the database. */
export interface RunSituation {
  readonly run: Run
  readonly environment: string
  /** The live lease, if any. */
  readonly lease?: Lease
  /** Where the worker that holds it is connected, when that is another engine on the database. */
  readonly engine?: OtherEngine
  /** Steps whose code runs now, as the worker says. */
  readonly running?: ReadonlyArray<RunningStep>
  /** When a step was finished last, by the clock of its worker, epoch milliseconds. */
  readonly lastStepAt?: number
  /** What is damaged of the run, for which the engine leaves it alone. */
  readonly damage?: string
  /** Since when the run can be claimed, epoch milliseconds. */
  readonly readyAt?: number
  /** How often it was lost since its last step, if it is tried apart from others because of that. */
  readonly losses?: number
  readonly concurrencyKey?: string
  /** How many runs hold a lease under the same concurrency key. */
  readonly held: number
  /** The ids of some of them. */
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
    /** Events that it may accept have come, and are being handed to those that wait for them. */
    readonly isOnItsWay?: true
    readonly childRunId?: string
    readonly failures?: number
    readonly error?: string
  }>
  readonly pause?: { readonly code: string; readonly message: string; readonly details?: unknown }
  readonly registration?: FunctionRegistration
  readonly functionDeleted?: boolean
  /** New runs of the function wait. */
  readonly functionPaused?: StoredPause
  /** The version of the function that it is pinned to, or that it begins with when workers have it; absent where any will do. */
  readonly pin?: { readonly version: string; readonly hasBegun: boolean }
  /** The worker to which the run's actor is bound. */
  readonly actorWorkerId?: string
  /** The schedule whose fires wait for its end, or are left out until then. */
  readonly heldBack?: HeldBack
}

export interface RecordingPage {
  readonly events: Array<AuditEvent>
  /** After what to go on; absent at the end. */
  readonly next?: number
}
