/** Makes Effects of checks that throw. */
import * as Effect from "effect/Effect"
import { type EngineError, type IronflowError, isIronflowError, ValidationError } from "./Errors.ts"

/** Runs a check. An error of this package that the check throws becomes the failure of the Effect. */
export const checked = <A>(check: () => A): Effect.Effect<A, IronflowError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return isIronflowError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

/** Does what {@link checked} does, for checks that throw only `EngineError`. */
export const checkedInEngine = <A>(check: () => A): Effect.Effect<A, EngineError> =>
  // the caller passes only checks that throw no other error
  checked(check) as Effect.Effect<A, EngineError>

/** Does what {@link checked} does, for checks that throw only `ValidationError`. */
export const validated = <A>(check: () => A): Effect.Effect<A, ValidationError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
  })
