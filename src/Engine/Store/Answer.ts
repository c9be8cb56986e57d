/** What the caller of a program gets. */
import * as Effect from "effect/Effect"
import { Refused } from "./Program.ts"

/** Succeeds with the result of a program, and fails with its refusal. */
export const answerOf = <A, E>(result: A | Refused<E>): Effect.Effect<A, E> =>
  result instanceof Refused ? Effect.fail(result.error) : Effect.succeed(result)
