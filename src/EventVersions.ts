/** What happens when an event has another version than the definition with which the event is read. */
import { isErased } from "./Erased.ts"
import { SchemaValidationError } from "./Errors.ts"
import type { EventDefinition } from "./Event.ts"
import type { EventDefinitionRegistry } from "./Upcaster.ts"

/** The code of the error for an event that is newer than the code that reads it. */
export const EVENT_TOO_NEW = "EVENT_TOO_NEW"

/** A stored event, or one whose data was upcast by the registered definitions. */
interface ReadEvent {
  readonly name: string
  /** The version with which the event was emitted. */
  readonly version: number
  readonly data: unknown
}

/** The definition with which an event is read, where the event is read with one. */
type Reader = Pick<EventDefinition, "version" | "upcast"> | undefined

/** The registered definitions of the process that reads, if it has some. */
type Registered = Pick<EventDefinitionRegistry, "getLatestVersion"> | undefined

/** The version that the data has after the registered definitions have upcast it. */
const reachedVersion = ({ name, version }: ReadEvent, registered: Registered): number =>
  Math.max(version, registered?.getLatestVersion(name) ?? version)

/**
 * Decodes the data of an event for its reader. The registered definitions have upcast the data as far as they could.
 * The last upcast, to the version of the reader, may still be missing: it is made by the reader's own `upcast`. Throws
 * or rejects with what `upcast` and `decode` do. If the data does not fit, the error says so with the versions, where
 * these differ.
 */
export const decodeForReader = <R>(
  event: ReadEvent,
  reader: Reader,
  registered: Registered,
  decode: (data: unknown) => R
): R => {
  const reached = reachedVersion(event, registered)
  const upcast = reached + 1 === reader?.version && !isErased(event.data) ? reader.upcast : undefined
  const data = upcast === undefined ? event.data : upcast(event.data)
  const explain = (error: unknown): never => {
    const versions = {
      emitted: event.version,
      reached: upcast === undefined ? reached : reached + 1,
      reader: reader?.version,
      known: Math.max(reader?.version ?? 0, registered?.getLatestVersion(event.name) ?? 0)
    }
    throw error instanceof SchemaValidationError ? misfit(error, versions) : error
  }
  try {
    const result = decode(data)
    // safe cast: `explain` never returns, so this is a promise of the same result
    return result instanceof Promise ? (result.catch(explain) as R) : result
  } catch (error) {
    return explain(error)
  }
}

interface Versions {
  readonly emitted: number
  /** The version that the data was upcast to. */
  readonly reached: number
  readonly reader: number | undefined
  /** The newest version that this process knows; 0 when it knows none. */
  readonly known: number
}

/**
 * The error for data that does not fit. An event that is newer than every version that is known here is not at fault:
 * newer code can read it. So the error is retryable then, and has a code of its own.
 */
const misfit = (
  error: SchemaValidationError,
  { emitted, known, reached, reader }: Versions
): SchemaValidationError => {
  const { cause, message, validationErrors } = error
  if (known > 0 && emitted > known) {
    return new SchemaValidationError(
      `${message}. The event has version ${emitted}, and the newest definition in this process has version ${known}: deploy code ` +
        `with version ${emitted} wherever the event is read before you emit that version`,
      { code: EVENT_TOO_NEW, retryable: true, validationErrors, cause }
    )
  }
  const why =
    reader !== undefined && reached < reader
      ? `, and the definition has version ${reader}: ${advice(reached, reader)}`
      : reached > emitted
        ? `, and its data was upcast to version ${reached}`
        : undefined
  if (why === undefined) return error
  return new SchemaValidationError(`${message}. The event has version ${emitted}${why}`, {
    validationErrors,
    cause
  })
}

const advice = (reached: number, reader: number): string =>
  reached + 1 === reader
    ? "give the definition an `upcast`"
    : `register the versions from ${reached + 1}, each with its \`upcast\`, as \`eventDefinitions\` of the worker or client`

/** Whether the error says that the event is newer than the code that reads it. */
export const isEventTooNew = (error: unknown): error is SchemaValidationError =>
  error instanceof SchemaValidationError && error.code === EVENT_TOO_NEW
