/** Parses JSON from the database. Text that cannot be parsed is damage: the engine stores only valid JSON. */
import { StoreError } from "../../Errors.ts"
import { hasErrors, plainResult } from "../../ResultEncoding.ts"

/** The beginning of the message of {@link parseStored}'s error. */
export const NOT_JSON = "what is stored is not JSON"

/** Parses stored JSON text. Throws `StoreError` with code `STORE_CORRUPT`. */
export const parseStored = (text: unknown): ReturnType<typeof JSON.parse> => {
  try {
    return JSON.parse(String(text))
  } catch (error) {
    // without the stored data that the message quotes: the reader of the message may not be allowed to see it
    const reason = (error instanceof Error ? error.message : String(error)).replace(/, (?:\.{3})?".*/s, "")
    throw new StoreError(`${NOT_JSON} (${reason}). The row is damaged: restore the database from a backup`, {
      code: "STORE_CORRUPT"
    })
  }
}

/** The result of a step or run, with errors as plain objects: for readers that do not know how `ResultEncoding.ts` marks errors. */
export const storedPlain = (text: string): unknown =>
  hasErrors(text) ? plainResult(text) : parseStored(text)

/**
 * The result of a step or run, for clients. `outputHasErrors` is set when the output contains errors, which the client restores
 * with `revive`.
 */
export const storedOutput = (
  text: string | undefined
): { readonly output?: unknown; readonly outputHasErrors?: true } => {
  const output = parseStoredIfAny(text)
  if (output === undefined) return {}
  return hasErrors(text) ? { output, outputHasErrors: true } : { output }
}

/** {@link parseStored} for text that may be absent. */
export const parseStoredIfAny = (text: string | undefined): unknown =>
  text === undefined ? undefined : parseStored(text)
