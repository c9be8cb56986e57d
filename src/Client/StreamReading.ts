/** Checks the options of reads of entity streams, finds the next page, and upcasts events. */
import { ValidationError } from "../Errors.ts"
import { show } from "../Show.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import type {
  ListStreamsOptions,
  ReadStreamOptions,
  ReadStreamResult,
  StreamEvent,
  StreamEventsOptions
} from "./Streams.ts"

const DEFAULT_PAGE_SIZE = 100
const MAX_PAGE_SIZE = 1000

/** The request for the first page. Throws `ValidationError`. */
export const firstPage = (options: StreamEventsOptions = {}): ReadStreamOptions => {
  const { pageSize = DEFAULT_PAGE_SIZE, ...rest } = options
  if (!Number.isInteger(pageSize) || pageSize < 1 || pageSize > MAX_PAGE_SIZE) {
    throw new ValidationError(
      `\`pageSize\` must be an integer from 1 to ${MAX_PAGE_SIZE}, got ${show(pageSize)}`
    )
  }
  return { ...rest, limit: pageSize }
}

/** The request for the next page; `undefined` when there is none. */
export const pageAfter = (
  request: ReadStreamOptions,
  { events }: ReadStreamResult
): ReadStreamOptions | undefined => {
  const lastEvent = events.at(-1)
  if (lastEvent === undefined || events.length < (request.limit ?? 0)) return undefined
  if (request.direction !== "backward") return { ...request, fromVersion: lastEvent.entityVersion + 1 }
  // the next version would be 0, and a backward read from 0 starts at the end again
  return lastEvent.entityVersion === 1 ? undefined : { ...request, fromVersion: lastEvent.entityVersion - 1 }
}

/** The result with the data of its events upcast to the latest version. Throws the errors of upcasters. */
export const upcastEvents = (
  result: ReadStreamResult,
  definitions: EventDefinitionRegistry | undefined
): ReadStreamResult =>
  definitions === undefined
    ? result
    : {
        ...result,
        events: result.events.map((event): StreamEvent => ({
          ...event,
          data: definitions.upcastEvent(event.name, event.data, event.version)
        }))
      }

/** The options of a read, checked and with defaults. Throws `ValidationError`. */
export const checkRead = (entityId: string, options: ReadStreamOptions = {}) => {
  const { direction = "forward", fromVersion = 0, limit = 0 } = options
  checkCount(`\`fromVersion\` of stream "${entityId}"`, fromVersion)
  checkCount(`\`limit\` of stream "${entityId}"`, limit)
  if (direction !== "forward" && direction !== "backward") {
    throw new ValidationError(
      `\`direction\` of stream "${entityId}" must be "forward" or "backward", got ${show(direction)}`
    )
  }
  return { direction, fromVersion, limit }
}

/** The options of a list, checked and with defaults. Throws `ValidationError`. */
export const checkList = (options: ListStreamsOptions = {}) => {
  const { entityType, limit = 50, offset = 0 } = options
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
    throw new ValidationError(
      `The limit of listStreams must be an integer from 1 to 1000, got ${show(limit)}`
    )
  }
  checkCount("The offset of listStreams", offset)
  if (entityType !== undefined && typeof entityType !== "string") {
    throw new ValidationError(`The entity type must be a string, got ${show(entityType)}`)
  }
  return { limit, offset, ...(entityType === undefined ? {} : { entityType }) }
}

export const checkCount = (what: string, value: unknown): number => {
  if (Number.isSafeInteger(value) && Number(value) >= 0) return Number(value)
  throw new ValidationError(`${what} must be an integer, at least 0, got ${show(value)}`)
}
