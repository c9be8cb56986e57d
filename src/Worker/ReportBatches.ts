/**
 * Splits reports into as few batches as the size limit of a request allows, and combines the answers to the
 * batches into one answer for each report.
 */
import { LimitExceededError, serializeError } from "../Errors.ts"
import { byteLength } from "../Json.ts"
import type { Outcome, TurnAck, TurnLogs, TurnOp, TurnReport } from "../Protocol/Worker.ts"

/** How many bytes of a request are kept free for everything but its reports. */
const ENVELOPE_BYTES = 1024

/** A numbered batch of reports. */
export interface Batch {
  readonly number: number
  readonly reports: ReadonlyArray<TurnReport>
  /** The reports as JSON. */
  readonly text: string
}

/** The batches into which reports were split. */
export interface SplitReports {
  readonly batches: ReadonlyArray<Batch>
  /** For each job whose report has an op that is too large for any request: the message about this op. */
  readonly tooLarge: ReadonlyMap<string, string>
}

/** Splits reports into as few batches as the size limit of a request allows: nearly always into one. */
export const splitIntoBatches = (
  reports: ReadonlyArray<TurnReport>,
  maxBodyBytes: number,
  nextNumber: () => number
): SplitReports => {
  const text = JSON.stringify(reports)
  const maxBytes = maxBodyBytes - ENVELOPE_BYTES
  const tooLarge = new Map<string, string>()
  if (!(maxBytes > 0) || text.length * 3 <= maxBytes || byteLength(text) <= maxBytes) {
    return { batches: [{ number: nextNumber(), reports, text }], tooLarge }
  }
  const parts: Array<Array<{ jobId: string; runId: string; ops: Array<TurnOp>; logs?: TurnLogs }>> = [[]]
  let bytes = 0
  const add = ({ jobId, runId }: TurnReport, op: TurnOp, size: number): void => {
    if (bytes > 0 && bytes + size > maxBytes) {
      parts.push([])
      bytes = 0
    }
    bytes += size
    const part = parts.at(-1)!
    const last = part.at(-1)
    if (last?.jobId === jobId) last.ops.push(op)
    else part.push({ jobId, runId, ops: [op] })
  }
  for (const report of reports) {
    let { logs } = report
    for (const op of report.ops) {
      // includes the bytes of the ids and brackets around the op, which are needed when the op is the first of its
      // report in a batch
      const size = byteLength(JSON.stringify(op)) + ENVELOPE_BYTES
      if (size <= maxBytes) {
        const logBytes = logs === undefined ? 0 : byteLength(JSON.stringify(logs))
        // log lines that do not fit into a batch beside the op are left out
        const fittingLogs = size + logBytes <= maxBytes ? logs : undefined
        add(report, op, fittingLogs === undefined ? size : size + logBytes)
        if (fittingLogs !== undefined) parts.at(-1)!.at(-1)!.logs = fittingLogs
        logs = undefined
        continue
      }
      const error = new LimitExceededError(`A report about run ${report.runId}`, size, maxBodyBytes, "bytes")
      add(report, { _tag: "Fail", error: serializeError(error) }, ENVELOPE_BYTES)
      tooLarge.set(report.jobId, error.message)
      break
    }
  }
  return {
    batches: parts.map((part) => ({
      number: nextNumber(),
      reports: part,
      text: JSON.stringify(part)
    })),
    tooLarge
  }
}

/**
 * Combines the answers to the batches into one answer for each report. The ops of a report may have been in
 * several batches.
 */
export const combineAnswers = (
  reports: ReadonlyArray<TurnReport>,
  { batches, tooLarge }: SplitReports,
  acks: ReadonlyArray<ReadonlyArray<TurnAck>>
): ReadonlyArray<TurnAck> => {
  if (batches.length === 1 && tooLarge.size === 0) return acks[0]!
  const outcomes = new Map<string, Array<Outcome | undefined>>()
  const refusals = new Map<string, TurnAck>()
  const paused = new Set<string>()
  for (const [jobId, message] of tooLarge) refusals.set(jobId, { _tag: "Refused", reason: "LIMIT", message })
  for (const [i, batch] of batches.entries()) {
    for (const [j, { jobId }] of batch.reports.entries()) {
      const ack = acks[i]![j]!
      if (ack._tag === "Refused") refusals.set(jobId, refusals.get(jobId) ?? ack)
      else {
        outcomes.set(jobId, [...(outcomes.get(jobId) ?? []), ...ack.outcomes])
        if (ack.paused === true) paused.add(jobId)
      }
    }
  }
  return reports.map(
    ({ jobId }) =>
      refusals.get(jobId) ?? {
        _tag: "Accepted",
        outcomes: outcomes.get(jobId) ?? [],
        ...(paused.has(jobId) ? { paused: true } : {})
      }
  )
}
