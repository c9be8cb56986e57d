/** Describes the status of a projection, and the reason for it. */
import type { RunError } from "../../RunError.ts"
import type { ProjectionStatusInfo } from "../../Client/Projections.ts"
import type { SerializedError } from "../../Errors.ts"
import { ownerText } from "../../Projection/OwnerName.ts"
import type { ProjectionInfo } from "../Records/ProjectionRecords.ts"

export const toRunError = ({
  code,
  data,
  message,
  name,
  retryable,
  stack
}: Omit<SerializedError, "stack"> & { readonly stack?: string | undefined }): RunError => ({
  message,
  code: code ?? "ERROR",
  name,
  ...(stack === undefined ? {} : { stack }),
  ...(retryable === undefined ? {} : { retryable }),
  ...(data === undefined ? {} : { details: data })
})

export const iso = (time: number): string => new Date(time).toISOString()

export const toStatus = (info: ProjectionInfo): ProjectionStatusInfo => ({
  name: info.name,
  mode: info.mode,
  status: info.status,
  message: explainStatus(info),
  events: info.events,
  ...(info.partitionKey === undefined ? {} : { partitionKey: info.partitionKey }),
  lastEventSeq: info.position,
  lag: info.lag,
  ...(info.owner === undefined ? {} : { owner: info.owner.workerId }),
  generation: info.generation,
  ...(info.paused === undefined
    ? {}
    : {
        pausedBy: info.paused.by,
        pausedAt: iso(info.paused.at),
        ...(info.paused.reason === undefined ? {} : { pauseReason: info.paused.reason })
      }),
  ...(info.rebuildTo === undefined ? {} : { rebuildTo: info.rebuildTo }),
  ...(info.lastError === undefined
    ? {}
    : {
        errorMessage: info.lastError.error.message,
        lastError: {
          ...toRunError({ ...info.lastError.error, stack: undefined }),
          position: info.lastError.position,
          at: iso(info.lastError.at)
        }
      }),
  ...(info.failing === undefined ? {} : { failing: info.failing }),
  deadLetters: info.deadLetters,
  refusedSaves: info.refusedSaves,
  createdAt: iso(info.createdAt),
  updatedAt: iso(info.updatedAt)
})

/** Explains in a sentence or two what the projection waits for, or why it does not go on. */
export const explainStatus = (info: ProjectionInfo): string => {
  const { deadLetters, failing, lag, owner, paused, position, rebuildTo } = info
  const waitText = lag === 1 ? "1 event waits" : `${lag} events wait`
  const notes =
    (deadLetters === 0
      ? ""
      : ` ${deadLetters === 1 ? "1 event is a dead letter" : `${deadLetters} events are dead letters`}.`) +
    (info.eventsGoneAt === undefined
      ? ""
      : ` Some events up to ${iso(info.eventsGoneAt)} have been deleted: the projection does not get them.`)
  if (paused !== undefined) {
    const reason = paused.reason === undefined ? "" : ` (${paused.reason})`
    return `Paused by ${paused.by} at ${iso(paused.at)}${reason}; ${waitText}.${notes}`
  }
  if (owner === undefined) return `No worker runs the projection; ${waitText}.${notes}`
  if (failing !== undefined) {
    return (
      `The event at position ${failing.position} has failed ${failing.failures === 1 ? "once" : `${failing.failures} times`} ` +
      `and is tried again: ${info.lastError?.error.message ?? ""}; ${waitText}.${notes}`
    )
  }
  if (rebuildTo !== undefined) {
    return `Being rebuilt by ${ownerText(owner.workerId)}: at position ${position} of ${rebuildTo}; ${waitText}.${notes}`
  }
  return lag === 0
    ? `Up to date, run by ${ownerText(owner.workerId)}.${notes}`
    : `Run by ${ownerText(owner.workerId)}, at position ${position}; ${waitText}.${notes}`
}
