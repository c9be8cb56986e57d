/** Checks that throw, as Effects. */
import * as Effect from "effect/Effect"
import { type EngineError, type IronflowError, isIronflowError, ValidationError } from "./Errors.ts"

/** Runs a check that may throw one of our errors, which becomes the failure of the Effect. */
export const checked = <A>(check: () => A): Effect.Effect<A, IronflowError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return isIronflowError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

/** The same for checks that throw only `EngineError`. */
export const checkedInEngine = <A>(check: () => A): Effect.Effect<A, EngineError> =>
  // callers pass only such checks
  checked(check) as Effect.Effect<A, EngineError>

/** The same for checks that throw only `ValidationError`. */
export const validated = <A>(check: () => A): Effect.Effect<A, ValidationError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
  })
