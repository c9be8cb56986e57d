/** The filter of a subscription or of a consumer group: a condition that an event must fulfil to be handed out. */
import * as Effect from "effect/Effect"
import { compileExpression } from "../../Expression.ts"

export interface Filter {
  readonly text: string
  readonly accepts: (event: unknown) => boolean
}

/**
 * Compiles the filter of `whose`, as in `subscription to "order.*"`. One that uses up its budget for an event accepts none
 * such, and says so in the log the first time. Throws `ValidationError`.
 */
export const makeFilter = (
  text: string,
  whose: string,
  run: (effect: Effect.Effect<void>) => void
): Filter => {
  const { evaluate } = compileExpression(text, ["event"])
  let warned = false
  return {
    text,
    accepts: (event) => {
      const { error, exceeded, matched } = evaluate({ event })
      if (exceeded === true && !warned) {
        warned = true
        run(
          Effect.logWarning(
            `The filter of the ${whose} matches no event like the one at hand: ${error}. It is ${JSON.stringify(text.slice(0, 100))}${text.length > 100 ? "..." : ""}`
          )
        )
      }
      return matched
    }
  }
}
