/** Managing secrets over HTTP: values come in, names and times go out. */
import * as Effect from "effect/Effect"
import { IronflowError } from "../../Errors.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import type { EngineService } from "../Engine.ts"
import type { SecretsService } from "../Secrets.ts"
import type { SecretInfo } from "../Store/Store.ts"
import { type Call, checked, json, noContent, type Reply, type Route, route, variable } from "./Route.ts"

export const secretRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const secretsOf = (call: Call): SecretsService => engine.secrets(call.environment)

  const set = (
    call: Call,
    read: () => { readonly name: string; readonly value: string }
  ): Effect.Effect<Reply, IronflowError> =>
    Effect.flatMap(checked(read), ({ name, value }) =>
      Effect.andThen(secretsOf(call).set(name, value), answerInfo(secretsOf(call), name))
    )

  return [
    route("listSecrets", (call) => Effect.map(secretsOf(call).list, (secrets) => json(secrets.map(encode)))),
    route("setSecret", (call) => set(call, () => setRequest(call.body))),
    route("updateSecret", (call) =>
      set(call, () => ({ name: variable(call, "name"), value: updateRequest(call.body).value }))
    ),
    route("getSecret", (call) => answerInfo(secretsOf(call), variable(call, "name"))),
    route("deleteSecret", (call) => {
      const name = variable(call, "name")
      return Effect.flatMap(secretsOf(call).delete(name), (existed) =>
        existed ? Effect.succeed(noContent) : Effect.fail(notFound(name))
      )
    })
  ]
}

const setRequest = lenient(Schemas.SetSecretRequest, "Secret")
const updateRequest = lenient(Schemas.UpdateSecretRequest, "Secret")

const answerInfo = (secrets: SecretsService, name: string): Effect.Effect<Reply, IronflowError> =>
  Effect.flatMap(secrets.list, (all) => {
    const found = all.find((secret) => secret.name === name)
    return found === undefined ? Effect.fail(notFound(name)) : Effect.succeed(json(encode(found)))
  })

const encode = ({ name, createdAt, updatedAt }: SecretInfo) => ({
  name,
  created_at: createdAt,
  updated_at: updatedAt
})

const notFound = (name: string): IronflowError =>
  new IronflowError(`There is no secret "${name}" in this environment`, { code: "SECRET_NOT_FOUND" })
