/** Checks that throw, as a part of an effect. */
import * as Effect from "effect/Effect"
import { type EngineError, type IronflowError, isIronflowError, ValidationError } from "./Errors.ts"

/** Input that is not acceptable throws one of our errors: it becomes the failure of the call. */
export const checked = <A>(check: () => A): Effect.Effect<A, IronflowError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return isIronflowError(error) ? Effect.fail(error) : Effect.die(error)
    }
  })

/** The same where only errors of the engine are thrown. */
export const checkedInEngine = <A>(check: () => A): Effect.Effect<A, EngineError> =>
  // whoever calls it throws no other ones
  checked(check) as Effect.Effect<A, EngineError>

/** The same where nothing but `ValidationError` is thrown on purpose. */
export const validated = <A>(check: () => A): Effect.Effect<A, ValidationError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
  })
