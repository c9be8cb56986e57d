/** Turns the result of a program into an effect for the caller. */
import * as Effect from "effect/Effect"
import { Refused } from "./Program.ts"

/** Succeeds with the result of a program. If the program has refused, fails with the error of the refusal. */
export const resultAsEffect = <A, E>(result: A | Refused<E>): Effect.Effect<A, E> =>
  result instanceof Refused ? Effect.fail(result.error) : Effect.succeed(result)
