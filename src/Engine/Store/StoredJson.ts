/** JSON as it comes out of the database: what cannot be parsed there is damaged, and nobody's bad input. */
import { StoreError } from "../../Errors.ts"
import { hasErrors, plainResult } from "../../Result.ts"

/** How the message begins. */
export const NOT_JSON = "what is stored is not JSON"

/** The value of a stored JSON text. Throws `StoreError` with code `STORE_CORRUPT`. */
export const parseStored = (text: unknown): ReturnType<typeof JSON.parse> => {
  try {
    return JSON.parse(String(text))
  } catch (error) {
    // without what is stored, which whoever is told that it is damaged may not be allowed to see
    const reason = (error instanceof Error ? error.message : String(error)).replace(/, (?:\.{3})?".*/s, "")
    throw new StoreError(`${NOT_JSON} (${reason}). The row is damaged: restore the database from a backup`, {
      code: "STORE_CORRUPT"
    })
  }
}

/** The result of a step or run for whoever knows nothing of errors in JSON. */
export const storedPlain = (text: string): unknown =>
  hasErrors(text) ? plainResult(text) : parseStored(text)

/** The result of a step or run, as it is told to clients: `outputHasErrors` is set when there are errors in it, which `revive` reads. */
export const storedOutput = (
  text: string | undefined
): { readonly output?: unknown; readonly outputHasErrors?: true } => {
  const output = decodeStored(text)
  if (output === undefined) return {}
  return hasErrors(text) ? { output, outputHasErrors: true } : { output }
}

/** The same of a text that may be absent. */
export const decodeStored = (text: string | undefined): unknown =>
  text === undefined ? undefined : parseStored(text)
