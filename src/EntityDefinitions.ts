/**
 * Finds the definitions by which events of an entity are encoded and decoded, and makes the errors for data that does
 * not fit them. Clients use it, and so does the body of a `step.tx`.
 */
import type { AnyEntity } from "./Entity.ts"
import type { StreamEventInput } from "./EntityStream.ts"
import { StreamSchemaError } from "./Errors.ts"
import type { TypedEvent } from "./Event.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"

/** An event to append, before its data is encoded. */
export interface GivenEntityEvent {
  readonly name: string
  readonly data?: unknown
  readonly metadata?: Record<string, unknown>
}

const givenKeys = { name: true, data: true, metadata: true } satisfies Keys<GivenEntityEvent>

/** The definition of an event of the entity, by name. Throws `StreamSchemaError` when there is none. */
export const definitionOf = (
  entity: AnyEntity,
  entityId: string,
  name: string,
  entityVersion?: number
): TypedEvent => {
  const found = entity.events.find((event) => event.name === name)
  if (found !== undefined) return found
  throw new StreamSchemaError(entityId, name, entityVersion, [
    `name: the definition of entity "${entity.type}" has no event of this name. Add the event to the \`events\` of the definition`
  ])
}

/**
 * The definition of an event to append. Throws `ValidationError` for a misspelled field, and `StreamSchemaError`
 * when the entity has no such event.
 */
export const definitionForAppend = (
  entity: AnyEntity,
  entityId: string,
  event: GivenEntityEvent
): TypedEvent => {
  checkKeys(event, givenKeys, `An event of entity "${entityId}"`)
  return definitionOf(entity, entityId, event?.name)
}

/** The event in the form in which it is appended. `data` is its encoded data. */
export const toAppendInput = (
  { name, version }: TypedEvent,
  { metadata }: GivenEntityEvent,
  data: unknown
): StreamEventInput & { readonly version: number } => ({
  name,
  data,
  version,
  ...(metadata === undefined ? {} : { metadata })
})

/** Makes the error for an event that cannot be appended, since its data does not fit the schema. */
export const appendMismatch =
  (entityId: string, name: string) =>
  (problems: ReadonlyArray<string>, cause: unknown): StreamSchemaError =>
    new StreamSchemaError(entityId, name, undefined, problems, { cause })

/** Makes the error for an event that was read from a stream, and whose data does not fit the schema. */
export const readMismatch =
  (
    entityId: string,
    definition: TypedEvent,
    event: { readonly entityVersion: number; readonly version: number }
  ) =>
  (problems: ReadonlyArray<string>, cause: unknown): StreamSchemaError =>
    new StreamSchemaError(
      entityId,
      definition.name,
      event.entityVersion,
      event.version === definition.version
        ? problems
        : [
            ...problems,
            `version: the event was appended with version ${event.version}, and the definition has version ${definition.version}. ` +
              "Give the client `eventDefinitions` that convert it"
          ],
      { cause }
    )
