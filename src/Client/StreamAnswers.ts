/** Reads what any Ironflow server answers about entity streams, as leniently as `HttpAnswers.ts` reads the rest. */
import { isObject } from "../Json.ts"
import { defined, each, field, type Fields, filled, list, number, text } from "./HttpAnswers.ts"
import type {
  AppendAllResult,
  AppendResult,
  CreateSnapshotResult,
  ListStreamsResult,
  ReadStreamResult,
  StreamEvent,
  StreamInfo,
  StreamSnapshot,
  StreamSummary
} from "./Streams.ts"

export const readAppended = (answer: unknown): AppendResult | undefined => {
  if (!isObject(answer)) return undefined
  const eventId = text(answer, "eventId")
  const entityVersion = number(answer, "entityVersion")
  return eventId === undefined || entityVersion < 1
    ? undefined
    : { entityVersion, eventId, position: number(answer, "sequence") }
}

export const readAppendedAll = (answer: unknown): AppendAllResult | undefined => {
  if (!isObject(answer)) return undefined
  const events = each(list(answer, "events"), readAppended)
  const last = events.at(-1)
  return last === undefined
    ? undefined
    : { entityVersion: last.entityVersion, position: last.position, events }
}

export const readEvents = (answer: unknown): ReadStreamResult | undefined =>
  isObject(answer)
    ? { events: each(list(answer, "events"), readEvent), totalCount: number(answer, "totalCount") }
    : undefined

const readEvent = (event: unknown): StreamEvent | undefined => {
  if (!isObject(event)) return undefined
  const name = text(event, "name")
  if (name === undefined) return undefined
  const data = field(event, "data")
  const metadata = field(event, "metadata")
  return {
    id: text(event, "id") ?? "",
    name,
    data: data === undefined ? {} : data,
    entityVersion: number(event, "entityVersion"),
    version: number(event, "version") || 1,
    timestamp: text(event, "timestamp") ?? "",
    ...defined({
      source: filled(event, "source"),
      metadata: isObject(metadata) ? metadata : undefined
    })
  }
}

export const readInfo = (answer: unknown): StreamInfo | undefined => {
  if (!isObject(answer)) return undefined
  const entity = readEntity(answer)
  const createdAt = text(answer, "createdAt") ?? ""
  return entity && { ...entity, createdAt, updatedAt: text(answer, "updatedAt") ?? createdAt }
}

const readEntity = (of: Fields) => {
  const entityId = text(of, "entityId")
  return entityId === undefined
    ? undefined
    : {
        entityId,
        entityType: text(of, "entityType") ?? "",
        version: number(of, "version"),
        eventCount: number(of, "eventCount")
      }
}

export const readList = (answer: unknown): ListStreamsResult | undefined => {
  if (!isObject(answer)) return undefined
  const streams = each(list(answer, "streams"), (stream): StreamSummary | undefined => {
    const entity = isObject(stream) ? readEntity(stream) : undefined
    return isObject(stream) && entity !== undefined
      ? { ...entity, lastEventAt: text(stream, "lastEventAt") ?? "" }
      : undefined
  })
  return { streams, totalCount: number(answer, "totalCount") || streams.length }
}

export const readSnapshotId = (answer: unknown): CreateSnapshotResult | undefined => {
  const snapshotId = isObject(answer) ? text(answer, "snapshotId") : undefined
  return snapshotId === undefined ? undefined : { snapshotId }
}

export const readSnapshot = (answer: unknown): StreamSnapshot | undefined => {
  if (!isObject(answer)) return undefined
  const snapshotId = text(answer, "snapshotId")
  return snapshotId === undefined
    ? undefined
    : {
        snapshotId,
        entityId: text(answer, "entityId") ?? "",
        entityType: text(answer, "entityType") ?? "",
        entityVersion: number(answer, "entityVersion"),
        state: field(answer, "state"),
        createdAt: text(answer, "createdAt") ?? ""
      }
}
