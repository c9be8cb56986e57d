/** The filter of a subscription or a consumer group: the condition under which an event is delivered. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../../Errors.ts"
import { compileExpression } from "../../Expression.ts"
import { show } from "../../Show.ts"

export interface Filter {
  readonly text: string
  readonly accepts: (event: unknown) => boolean
}

/**
 * Compiles a filter. An event on which the filter cannot be evaluated is not delivered. The first time that the filter exceeds
 * its budget of evaluation steps, a warning is logged. In the warning, `owner` says whose filter it is, such as `subscription
 * to "order.*"`. Throws `ValidationError`.
 */
export const makeFilter = (
  text: unknown,
  owner: string,
  run: (effect: Effect.Effect<void>) => void
): Filter => {
  if (typeof text !== "string")
    throw new ValidationError(`\`filter\` must be a string with a CEL expression, got ${show(text)}`)
  const { evaluate } = compileExpression(text, ["event"])
  let hasWarned = false
  return {
    text,
    accepts: (event) => {
      const { error, exceeded, matched } = evaluate({ event })
      if (exceeded === true && !hasWarned) {
        hasWarned = true
        run(
          Effect.logWarning(
            `The filter of the ${owner} is too expensive to evaluate for an event, so the event is not delivered: ${error}. The filter is ${JSON.stringify(text.slice(0, 100))}${text.length > 100 ? "..." : ""}`
          )
        )
      }
      return matched
    }
  }
}
