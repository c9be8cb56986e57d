/** How a worker outside this process is connected, and what its connection tells the engine. */
import type { WorkerLimits } from "../Access/WorkerAccess.ts"
import type { Job, TurnAck, TurnReport, WorkerSession } from "../../Protocol/Worker.ts"
import type * as Effect from "effect/Effect"
import type { ConnectionError, StoreError } from "../../Errors.ts"
import type { Adoption } from "../Turns/TurnRecords.ts"

export interface RemoteWorkerOptions {
  readonly transport: string
  /** How long a lease lasts without a heartbeat, in milliseconds. */
  readonly leaseMs: number
  /** Whether the worker itself ends its turns at their timeout. Workers with the turn protocol do; of other workers it is unknown. */
  readonly endsTurns?: boolean
  /** Which functions the worker may run; absent for a worker that may run any of its functions. */
  readonly limits?: WorkerLimits
  /**
   * The id of the worker's process. With the same id, a worker that moves here from another engine keeps its turns. Absent for a
   * worker that does not name its process.
   */
  readonly instance?: string
  /** The number of this registration among those of the instance. */
  readonly number?: number
  /** Called when the worker has connected to another engine. From then on, nothing is accepted from it here. */
  readonly onMoved?: (workerId: string) => void
}

/** A session with a worker outside this process. Its leases expire. */
export interface RemoteSession extends WorkerSession {
  /** The worker's last batch of reports at its former engine, and the answers to it. */
  readonly batchElsewhere?: { readonly batch: number; readonly acks: ReadonlyArray<TurnAck> }
  /** Whether the worker has connected to another engine. */
  readonly hasMovedAway: () => boolean
  /** `report` of {@link WorkerSession}. `batch` is the number of the batch, by which a repeated batch is recognized. */
  readonly report: (
    reports: ReadonlyArray<TurnReport>,
    batch?: number
  ) => Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError>
  /**
   * Sets whether the worker can be reached, which is true at first. While it cannot be reached, its room does not count and it
   * gets nothing.
   */
  readonly setReachable: (reachable: boolean, problem?: string) => void
  /** Sets why the worker gets no runs of one of its functions. `undefined` means that it gets them, as it does at first. */
  readonly setFunctionProblem: (functionId: string, problem: string | undefined) => void
  /** Claims at most `n` runs now, whatever its room. */
  readonly take: (n: number) => Effect.Effect<ReadonlyArray<Job>, StoreError>
  /**
   * Renews the leases of these jobs, or of all jobs of the worker. Leases of turns that are long past their timeout are not
   * renewed. Returns the ids among `jobIds` whose jobs the worker does not hold.
   */
  readonly extend: (jobIds?: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Keeps turns of an earlier session; see `adoptLeases` in `Turns/ExtendLeases.ts`. */
  readonly adopt: (
    jobIds: ReadonlyArray<string>,
    since?: string
  ) => Effect.Effect<Omit<Adoption, "notices">, StoreError>
  /** Notes that the worker no longer works on the job, however its turn has ended. */
  readonly forget: (jobId: string) => void
  /** Notes that the worker has dropped these jobs, as it was told to. */
  readonly noteDropped: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  /** Ends the session. `hasDied` means that the worker has died, which counts as a loss of its runs. */
  readonly close: (hasDied: boolean) => Effect.Effect<void, StoreError>
  /** Ends the session and leaves the leases as they are. */
  readonly detach: () => void
}
