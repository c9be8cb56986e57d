/** The failure that a test without an engine passes to the `onFailure` handler. */
import type { SerializedError } from "../Errors.ts"
import { decodeJson } from "../Json.ts"
import type { FailedRun } from "../OnFailure.ts"
import type { Job, JournalEntry } from "../Protocol/Worker.ts"
import { plainResult } from "../ResultEncoding.ts"
import { runErrorOf } from "../RunError.ts"

export const failedRun = (
  { attempt, createdAt, event, functionId, runId }: Job,
  error: SerializedError,
  journal: ReadonlyArray<JournalEntry>,
  failedAt: number
): FailedRun => ({
  runId,
  functionId,
  attempts: attempt,
  error: runErrorOf(error),
  event: {
    id: event.id,
    name: event.name,
    version: event.version,
    data: decodeJson(event.data),
    timestamp: iso(event.timestamp)
  },
  steps: journal.map(({ attempt, kind, name, outcome }) => ({
    name,
    kind,
    attempt,
    ...(outcome._tag === "Failure"
      ? { status: "failed", error: runErrorOf(outcome.error) }
      : {
          status: "completed",
          ...(outcome.value === undefined ? {} : { output: plainResult(outcome.value) })
        })
  })),
  createdAt: iso(createdAt),
  failedAt: iso(failedAt)
})

const iso = (at: number): string => new Date(at).toISOString()
