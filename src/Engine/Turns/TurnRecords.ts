/** The types for giving runs to workers: the demand of a worker, a claim, and what a worker keeps when it connects again. */
import type { Job, Notice } from "../../Protocol/Worker.ts"

/**
 * A worker, and its room for more runs. A worker without room is listed too, because the runs of its version and of its actors
 * wait for it.
 */
export interface Demand {
  readonly workerId: string
  readonly environment: string
  /** The code version of each function whose runs the worker may get now, by function id. */
  readonly functions: ReadonlyMap<string, string>
  readonly labels: { readonly [key: string]: string }
  /** How many more runs the worker can take now. */
  readonly room: number
  /** How many runs the worker can execute at the same time. When absent, `room` is used. */
  readonly capacity?: number
  /**
   * How long a lease lasts without a heartbeat, in milliseconds. Absent for a worker in this process, whose leases do not
   * expire.
   */
  readonly leaseMs?: number
  /** Set when the worker is connected to another engine, which gives it runs. */
  readonly isElsewhere?: true
}

export interface Claim {
  readonly workerId: string
  readonly job: Job
}

/** The result when a worker registers again and names the jobs that it still executes. */
export interface Adoption {
  /** The named jobs that the worker no longer holds. */
  readonly lost: ReadonlyArray<string>
  /** Jobs that were left alone, because another worker with the same id may execute them. */
  readonly leftAlone: ReadonlyArray<string>
  /** Notices for the jobs that the worker keeps. */
  readonly notices: ReadonlyArray<Notice>
  /** The ids of the worker's own jobs sort after this id. */
  readonly since: string
}
