/** Logs what was left out of the reports of turns. */
import * as Effect from "effect/Effect"

/** How many sentences one line has. */
const MAX_SENTENCES = 5

/** Logs what was left out of a message of a worker or endpoint because it is invalid. The rest of the message counts. */
export const logLeftOut = (from: string, leftOut: ReadonlyArray<string>): Effect.Effect<void> => {
  if (leftOut.length === 0) return Effect.void
  const more = leftOut.length > MAX_SENTENCES ? `; and ${leftOut.length - MAX_SENTENCES} more` : ""
  return Effect.logWarning(
    `A report of ${from} is invalid in a part that no run depends on: ${leftOut.slice(0, MAX_SENTENCES).join("; ")}${more}. The rest of the report counts`
  )
}
