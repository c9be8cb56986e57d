/** What was recorded of a run, as a value that can be kept in a file and replayed against other code. */
import type { Job } from "./Worker.ts"

/** A run as the engine would hand it to a worker, and how it has ended if it has. Plain JSON. */
export interface RunHistory extends Pick<
  Job,
  | "runId"
  | "functionId"
  | "environment"
  | "attempt"
  | "generation"
  | "event"
  | "journal"
  | "open"
  | "createdAt"
> {
  /** The run's status when it was read. */
  readonly status: string
}
