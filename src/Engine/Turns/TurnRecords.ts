/** What those who hand out turns give and take. */
import type { Job, Notice } from "../../Protocol/Worker.ts"

/** A worker that has room for more runs. */
export interface Demand {
  readonly workerId: string
  readonly environment: string
  /** Function id to what its code is called, as the worker registered them. */
  readonly functions: ReadonlyMap<string, string>
  readonly labels: { readonly [key: string]: string }
  readonly credit: number
  /** How many runs it takes at most; `credit` unless given. */
  readonly capacity?: number
  /** How long a lease holds without a sign of life; absent for a worker in this process, which cannot outlive it. */
  readonly leaseMs?: number
}

export interface Claim {
  readonly workerId: string
  readonly job: Job
}

export interface Adoption {
  readonly lost: ReadonlyArray<string>
  /** Jobs that another worker of its id may be at. */
  readonly left: ReadonlyArray<string>
  readonly notices: ReadonlyArray<Notice>
  /** The ids of its own jobs sort after this. */
  readonly since: string
}
