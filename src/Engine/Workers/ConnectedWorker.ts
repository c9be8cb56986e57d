/** A connected worker as the engine knows it: its functions, its active jobs, and its free room. */
import type { WorkerInfo } from "../../Client/Client.ts"
import { ConnectionError, type StoreError } from "../../Errors.ts"
import {
  type FunctionRegistration,
  type WorkerRegistration,
  type WorkerHandlers,
  type Notice,
  endsLease,
  type TurnReport,
  type TurnAck,
  endsTurn
} from "../../Protocol/Worker.ts"
import type { WorkerLimits } from "../Access/WorkerAccess.ts"
import type { ShortLivedSet } from "../../ShortLivedMap.ts"
import type { LeaseHolder } from "../Runs/Stuck.ts"

/** A connected worker. */
export interface ConnectedWorker {
  readonly registration: WorkerRegistration
  /** Unique to this connection, among all engines on the database. */
  readonly session: string
  /** Called when the worker has connected to another engine. */
  readonly onMoved: ((workerId: string) => void) | undefined
  /** The code version of each function, by function id. */
  readonly functions: ReadonlyMap<string, string>
  readonly functionIds: ReadonlySet<string>
  /** The registration of each function, by function id. */
  readonly registrations: ReadonlyMap<string, FunctionRegistration>
  /** Whether the worker has a function that pins runs. */
  readonly pinsRuns: boolean
  readonly handlers: WorkerHandlers
  readonly transport: string
  readonly connectedAt: number
  readonly leaseMs: number | undefined
  /** Which functions the worker may run; absent for a worker that may run any of its functions. */
  readonly limits: WorkerLimits | undefined
  /**
   * How long the worker lets one turn of each function take, in milliseconds. Absent when it is unknown whether the worker ends its
   * turns.
   */
  readonly turnLimits: ReadonlyMap<string, number> | undefined
  /** Characters of the registration; see {@link registrationLength}. */
  readonly length: number
  /** The ids of the jobs that the worker holds. */
  readonly activeJobIds: ShortLivedSet<string>
  /** The ids of the jobs that an earlier worker with the same id may still work on. */
  earlierJobs: ReadonlySet<string>
  /**
   * Whether it is stored in the database that the worker is connected to this engine. Always false where the database has no
   * other engines.
   */
  isClaimed: boolean
  /** The functions of the worker that are stored for other engines: those that it was allowed to run when they were stored. */
  storedFunctions: ReadonlyMap<string, string>
  /** Whether the worker has connected to another engine. */
  hasMovedAway: boolean
  /** How many more jobs the worker takes now. */
  room: number
  reachable: boolean
  /** Why the worker cannot be reached; `undefined` when it can, or when the reason is unknown. */
  problem: string | undefined
  /** Why the worker gets no runs of one of its functions, by function id. */
  readonly functionProblems: Map<string, string>
}

/**
 * How long a job may be in transit before its lease is checked again, in milliseconds. An engine that stood still may have lost
 * the leases of the jobs that it is about to dispatch. The limit is a third of the lease, so that enough of the lease is left
 * when the job reaches the worker.
 */
export const maxTransitMs = (leaseMs: number): number => leaseMs / 3

/** Characters of a worker's registration. */
export const registrationLength = ({ functions, hostname, labels }: WorkerRegistration): number =>
  JSON.stringify([functions, hostname, labels]).length

/** Whether the turns of the worker end with this engine: it runs in the same process, or is a push endpoint. */
export const endsWithEngine = ({ leaseMs, transport }: ConnectedWorker): boolean =>
  leaseMs === undefined || transport === "push"

/** When the worker's program started, in epoch milliseconds; for a worker that does not say it, when the worker connected. */
export const startedAtOf = ({ connectedAt, registration }: ConnectedWorker): number =>
  registration.startedAt ?? connectedAt

export const holderOf = ({ turnLimits }: ConnectedWorker): LeaseHolder => ({ turnLimits })

/** Passes a notice to a worker. Notices about pauses go only to a worker that understands them. */
export const sendNotice = (worker: ConnectedWorker, notice: Notice): void => {
  if (endsLease(notice)) worker.activeJobIds.delete(notice.jobId)
  else if (notice._tag !== "Fired" && worker.registration.pauses !== true) return
  worker.handlers.onNotice(notice)
}

/** Tells a worker, for each of its turns, that the lease of the turn is lost. */
export const loseTurns = (worker: ConnectedWorker): void => {
  for (const jobId of worker.activeJobIds) {
    const reason = "the engine was cut off from its database for too long"
    sendNotice(worker, { _tag: "LeaseLost", jobId, reason })
  }
}

export const forgetEnded = (
  worker: ConnectedWorker,
  reports: ReadonlyArray<TurnReport>,
  acks: ReadonlyArray<TurnAck>
): void => {
  for (let i = 0; i < reports.length; i++) {
    const report = reports[i]!
    const last = report.ops.at(-1)
    if (acks[i]?._tag === "Refused" || (last !== undefined && endsTurn(last)))
      worker.activeJobIds.delete(report.jobId)
  }
}

/** The error for a worker when something that it reported could not be stored. */
export const notStoredError = (error: StoreError): ConnectionError =>
  new ConnectionError(`The engine could not store what the worker reported: ${error.message}`, {
    cause: error
  })

/** A worker as shown in lists. */
export const infoOf = ({
  activeJobIds,
  connectedAt,
  functionIds,
  registration,
  transport
}: ConnectedWorker): WorkerInfo => ({
  id: registration.workerId,
  hostname: registration.hostname,
  functionIds: [...functionIds],
  maxConcurrentJobs: registration.maxConcurrentJobs,
  activeJobs: activeJobIds.size,
  labels: registration.labels,
  transport,
  registeredAt: new Date(connectedAt).toISOString()
})
