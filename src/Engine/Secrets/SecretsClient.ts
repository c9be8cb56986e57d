/** The client's methods for secrets, over those of the engine. */
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { SecretInfo, SecretsApi } from "../../Client/Secrets.ts"
import { IronflowError } from "../../Errors.ts"
import { show } from "../../Show.ts"
import type { SecretsService } from "./Secrets.ts"

export const make = (secrets: SecretsService): SecretsApi<EffectKind> => {
  const get = (name: string): Effect.Effect<SecretInfo, IronflowError> =>
    Effect.flatMap(secrets.find(name), (found) =>
      found === undefined ? Effect.fail(notFound(name)) : Effect.succeed(found)
    )
  return {
    set: (name, value) => Effect.andThen(secrets.set(name, value), get(name)),
    get,
    list: () => secrets.list,
    delete: (name) =>
      Effect.flatMap(secrets.delete(name), (existed) => (existed ? Effect.void : Effect.fail(notFound(name))))
  }
}

const notFound = (name: string): IronflowError =>
  new IronflowError(`There is no secret ${show(name)} in this environment`, {
    code: "SECRET_NOT_FOUND"
  })
