/** How a worker outside this process is connected, and what is said to the engine on its behalf. */
import type { WorkerLimits } from "../Access/WorkerAccess.ts"
import type { Job, TurnAck, TurnReport, WorkerSession } from "../../Protocol/Worker.ts"
import type * as Effect from "effect/Effect"
import type { ConnectionError, StoreError } from "../../Errors.ts"
import type { Adoption } from "../Turns/TurnRecords.ts"

/** How a worker outside this process is connected. */
export interface RemoteWorkerOptions {
  readonly transport: string
  /** How long a lease holds without a sign of life, milliseconds. */
  readonly leaseMs: number
  /** Whether it ends its turns itself when their time is up: what speaks turns does, and of others it is not known. */
  readonly endsTurns?: boolean
  /** Absent for one that may run whatever it has. */
  readonly limits?: WorkerLimits
  /** The process that it is, which keeps its turns when it comes from another engine; absent for one that does not say so. */
  readonly instance?: string
  /** Which registration of the instance it is. */
  readonly number?: number
  /** Called when it has connected to another engine: nothing is taken from it then. */
  readonly onMoved?: (workerId: string) => void
}

/** A session with a worker outside this process, whose leases hold for a limited time. */
export interface RemoteSession extends WorkerSession {
  /** Its last reports to the engine that it has come from, and how they were answered. */
  readonly before?: { readonly batch: number; readonly acks: ReadonlyArray<TurnAck> }
  /** Whether it has connected to another engine. */
  readonly hasMoved: () => boolean
  /** As of every worker; `batch` is the number of the reports, by which they are known if they come again. */
  readonly report: (
    reports: ReadonlyArray<TurnReport>,
    batch?: number
  ) => Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError>
  /** Whether the worker's credit counts: nothing is handed out while it cannot be reached. It can, at first. */
  readonly setReachable: (reachable: boolean, problem?: string) => void
  /** Claims at most `n` runs now, whatever the credit. */
  readonly take: (n: number) => Effect.Effect<ReadonlyArray<Job>, StoreError>
  /**
   * The leases of these jobs start anew, or all that the worker has, except for turns that it should have ended long since.
   * Returns those of `jobIds` that it does not have.
   */
  readonly extend: (jobIds?: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Keeps turns of an earlier session: see `StoreService.adoptLeases`. */
  readonly adopt: (
    jobIds: ReadonlyArray<string>,
    since?: string
  ) => Effect.Effect<Omit<Adoption, "notices">, StoreError>
  /** The worker is done with these jobs, which it was told to drop. */
  readonly dropped: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  /** Ends the session; `lost` says that the worker died, which counts as a loss of its runs. */
  readonly close: (lost: boolean) => Effect.Effect<void, StoreError>
  /** Ends the session and leaves the leases as they are. */
  readonly detach: () => void
}
