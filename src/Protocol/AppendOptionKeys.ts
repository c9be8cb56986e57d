/**
 * Checks the names of the members of an event to append. The check has a file of its own, since a client makes
 * only this check and leaves the others to the engine.
 */
import type {
  AppendAllInput,
  AppendEventInput,
  DefinedAppendInput,
  DefinedStreamEvent,
  StreamEventInput
} from "../EntityStream.ts"
import { isByDefinition } from "../EventEncoding.ts"
import { isObject } from "../Json.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"

const appendInputKeys = { name: true, data: true, entityType: true } satisfies Keys<AppendEventInput>
const definedAppendKeys = { event: true, data: true, entityType: true } satisfies Keys<DefinedAppendInput>
const streamEventKeys = {
  name: true,
  data: true,
  version: true,
  metadata: true
} satisfies Keys<StreamEventInput>
const definedEventKeys = { event: true, data: true, metadata: true } satisfies Keys<DefinedStreamEvent>
const appendAllInputKeys = { entityType: true, events: true } satisfies Keys<AppendAllInput>

/** Checks the names of the members of an append. Throws `ValidationError` as `checkKeys` does. */
export const checkAppendKeys = (input: unknown, what: string): void =>
  checkKeys(input, isByDefinition(input) ? definedAppendKeys : appendInputKeys, what)

/** Checks the names of the members of an append of several events, and of each of these events. Throws like `checkKeys`. */
export const checkAppendAllKeys = (input: unknown, what: string): void => {
  checkKeys(input, appendAllInputKeys, what)
  if (!isObject(input) || !Array.isArray(input.events)) return
  for (const [i, event] of input.events.entries()) {
    checkKeys(event, isByDefinition(event) ? definedEventKeys : streamEventKeys, `${what}: events[${i}]`)
  }
}
