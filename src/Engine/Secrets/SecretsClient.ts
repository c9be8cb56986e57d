/**
 * The methods for secrets of the client in the engine's process. They check their input, and then call {@link
 * SecretsOfEnvironment}.
 */
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { SecretsApi } from "../../Client/Secrets.ts"
import type { SecretInfo } from "../../Protocol/Secrets.ts"
import { type EngineError, SecretNotFoundError, ValidationError } from "../../Errors.ts"
import { show } from "../../Show.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import type { SecretsOfEnvironment } from "./Secrets.ts"

export const make = (secrets: SecretsOfEnvironment): Raw<SecretsApi<EffectKind>, EngineError> => {
  const get = (name: string): Effect.Effect<SecretInfo, EngineError> =>
    Effect.flatMap(Effect.andThen(requireName(name), secrets.find(name)), (found) =>
      found === undefined ? Effect.fail(new SecretNotFoundError(name)) : Effect.succeed(found)
    )
  return {
    set: (name, value) => Effect.andThen(secrets.set(name, value), get(name)),
    get,
    list: () => secrets.list,
    delete: (name) =>
      Effect.flatMap(Effect.andThen(requireName(name), secrets.delete(name)), (existed) =>
        existed ? Effect.void : Effect.fail(new SecretNotFoundError(name))
      )
  }
}

/** Fails unless `name` is a string that is not blank. */
const requireName = (name: unknown): Effect.Effect<void, EngineError> =>
  typeof name === "string" && name.trim() !== ""
    ? Effect.void
    : Effect.fail(
        new ValidationError(`The name of a secret must be a string that is not blank, got ${show(name)}`)
      )
