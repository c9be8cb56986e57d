/** Records of claiming and extending turns. */
import type { Job, Notice } from "../../Protocol/Worker.ts"

/**
 * A worker, and its room for more runs. One without room is listed because others depend on its presence: runs may be pinned to
 * its version.
 */
export interface Demand {
  readonly workerId: string
  readonly environment: string
  /** The code version of each function whose runs it may get now, by function id. */
  readonly functions: ReadonlyMap<string, string>
  readonly labels: { readonly [key: string]: string }
  /** How many more runs it takes now. */
  readonly room: number
  /** How many runs the worker takes in all; `room` by default. */
  readonly capacity?: number
  /** How long a lease lasts without a heartbeat, milliseconds. Absent for a worker in this process, which ends with it. */
  readonly leaseMs?: number
  /** Set when the worker is connected to another engine, which gives it its runs. */
  readonly isElsewhere?: true
}

export interface Claim {
  readonly workerId: string
  readonly job: Job
}

/** Which turns a worker keeps when it registers again. */
export interface Adoption {
  /** Of the jobs that the worker named: those that it no longer holds. */
  readonly lost: ReadonlyArray<string>
  /** Jobs on which another worker with this id may work. */
  readonly left: ReadonlyArray<string>
  readonly notices: ReadonlyArray<Notice>
  /** The ids of the worker's own jobs sort after this id. */
  readonly since: string
}
