/** A worker that is connected, as the engine knows it: what it has, what it is at, and how much room is left. */
import type { WorkerInfo } from "../../Client/Client.ts"
import { ConnectionError, type StoreError } from "../../Errors.ts"
import {
  type WorkerRegistration,
  type WorkerHandlers,
  type Notice,
  endsLease,
  type TurnReport,
  type TurnAck,
  endsTurn
} from "../../Protocol/Worker.ts"
import type { WorkerLimits } from "../Access/WorkerAccess.ts"
import type { PassingSet } from "../../Passing.ts"
import type { Holder } from "../Runs/Stuck.ts"

/** A connected worker. */
export interface Connected {
  readonly registration: WorkerRegistration
  /** Of this connection: no other one has it, of this engine or another one on its database. */
  readonly session: string
  /** Called when the worker has connected to another engine. */
  readonly onMoved: ((workerId: string) => void) | undefined
  /** What the code of each is called, by the id of the function. */
  readonly functions: ReadonlyMap<string, string>
  readonly functionIds: ReadonlySet<string>
  /** Whether it has a function that pins runs. */
  readonly pins: boolean
  readonly handlers: WorkerHandlers
  readonly transport: string
  readonly connectedAt: number
  readonly leaseMs: number | undefined
  /** Absent for one that may run whatever it has. */
  readonly limits: WorkerLimits | undefined
  /** How long it lets one turn of each function take, milliseconds; absent when it has no such limit. */
  readonly turnLimits: ReadonlyMap<string, number> | undefined
  /** Of its registration, see {@link registrationLength}. */
  readonly length: number
  readonly active: PassingSet<string>
  /** Jobs of another worker that had its id before, and may be at them. */
  left: ReadonlySet<string>
  /** Whether other engines on the database know where it is. */
  isTold: boolean
  /** Whether it has connected to another one. */
  hasMoved: boolean
  credit: number
  reachable: boolean
  /** Why it cannot be reached. */
  problem: string | undefined
}

/**
 * How long a job may be on its way before it is looked at again, milliseconds: an engine that stood still may have nothing of what it
 * is about to hand out. What is left of the lease is enough for the next part of the way.
 */
export const lateMs = (leaseMs: number): number => leaseMs / 3

/** Characters of what a worker has registered. */
export const registrationLength = ({ functions, hostname, labels }: WorkerRegistration): number =>
  JSON.stringify([functions, hostname, labels]).length

export const holderOf = ({ turnLimits }: Connected): Holder => ({ turnLimits })

/** Tells a worker what it understands. */
export const tell = (worker: Connected, notice: Notice): void => {
  if (endsLease(notice)) worker.active.delete(notice.jobId)
  else if (notice._tag !== "Fired" && worker.registration.pauses !== true) return
  worker.handlers.onNotice(notice)
}

/** The engine does not hold the leases of a worker any more: it is told of each turn that it is at. */
export const loseTurns = (worker: Connected): void => {
  for (const jobId of worker.active) {
    const reason = "the engine was out of touch with its database for too long"
    tell(worker, { _tag: "LeaseLost", jobId, reason })
  }
}

export const forgetEnded = (
  worker: Connected,
  reports: ReadonlyArray<TurnReport>,
  acks: ReadonlyArray<TurnAck>
): void => {
  for (let i = 0; i < reports.length; i++) {
    const report = reports[i]!
    const last = report.ops.at(-1)
    if (acks[i]?._tag === "Refused" || (last !== undefined && endsTurn(last)))
      worker.active.delete(report.jobId)
  }
}

/** Why a worker was not answered. */
export const notStored = (error: StoreError): ConnectionError =>
  new ConnectionError(`The engine could not store the report: ${error.message}`, { cause: error })

/** A worker as lists show it. */
export const infoOf = ({
  active,
  connectedAt,
  functionIds,
  registration,
  transport
}: Connected): WorkerInfo => ({
  id: registration.workerId,
  hostname: registration.hostname,
  functionIds: [...functionIds],
  maxConcurrentJobs: registration.maxConcurrentJobs,
  activeJobs: active.size,
  labels: registration.labels,
  transport,
  registeredAt: new Date(connectedAt).toISOString()
})
