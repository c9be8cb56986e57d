/** Runs as they travel: lower camel case, statuses as enum names, absent instead of empty. */
import type { Run, RunError } from "../../Client/Client.ts"
import { isRunStatus, type RunStatus } from "../../RunStatus.ts"

/** A run on the wire. */
export interface WireRun extends Omit<Run, "status" | "error"> {
  /** One of the names that every client knows: a run that is compensating is `RUN_STATUS_RUNNING`. */
  readonly status: string
  /** The exact status. Other servers do not send it. */
  readonly state?: RunStatus
  readonly error?: RunError
  readonly executionMode?: string
}

const wireNames: { readonly [S in RunStatus]: string } = {
  pending: "RUN_STATUS_PENDING",
  running: "RUN_STATUS_RUNNING",
  waiting: "RUN_STATUS_WAITING",
  compensating: "RUN_STATUS_RUNNING",
  paused: "RUN_STATUS_PAUSED",
  completed: "RUN_STATUS_COMPLETED",
  failed: "RUN_STATUS_FAILED",
  cancelled: "RUN_STATUS_CANCELLED"
}

/** A status as it is sent: under a name that every client knows, and exactly. */
export const encodeStatus = (status: RunStatus): { readonly status: string; readonly state: RunStatus } => ({
  status: wireNames[status],
  state: status
})

/** The run as it is sent. */
export const encodeRun = (run: Run): WireRun => ({
  ...run,
  ...encodeStatus(run.status),
  executionMode: "EXECUTION_MODE_PULL"
})

/** A run as any server sends it. */
export const decodeRun = (wire: WireRun): Run => {
  const { state, status, executionMode: _, ...run } = wire
  return { ...run, attempt: run.attempt ?? 0, status: state ?? decodeRunStatus(status) ?? "failed" }
}

/** A status in any spelling: `failed`, `FAILED`, `RUN_STATUS_FAILED`. `undefined` when it is none. */
export const decodeRunStatus = (text: string): RunStatus | undefined => {
  const word = text.toLowerCase().replace(/^run_status_/, "")
  // servers with a state for it: the run could be claimed, and no worker has room
  if (word === "waiting_for_capacity") return "pending"
  return isRunStatus(word) ? word : undefined
}
