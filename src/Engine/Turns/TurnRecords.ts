/** Records of claiming and extending turns. */
import type { Job, Notice } from "../../Protocol/Worker.ts"

/** A worker that has room for more runs. */
export interface Demand {
  readonly workerId: string
  readonly environment: string
  /** The code version of each registered function, by function id. */
  readonly functions: ReadonlyMap<string, string>
  readonly labels: { readonly [key: string]: string }
  readonly credit: number
  /** How many runs the worker takes in all; `credit` by default. */
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

export interface Adoption {
  readonly lost: ReadonlyArray<string>
  /** Jobs on which another worker with this id may work. */
  readonly left: ReadonlyArray<string>
  readonly notices: ReadonlyArray<Notice>
  /** The ids of the worker's own jobs sort after this id. */
  readonly since: string
}
