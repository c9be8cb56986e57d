/** The recorded history of a run, as a value that can be saved to a file and replayed against other code. */
import type { Job } from "./Worker.ts"

/** A run as the engine would dispatch it to a worker, with its status. It can be written as JSON. */
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
  /** Status of the run at the time of reading. */
  readonly status: string
}
