/** Managing secrets over HTTP: values come in, names and times go out. */
import type { Raw } from "../../Client/Named.ts"
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { SecretInfo, SecretsApi } from "../../Client/Secrets.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import type { EngineService } from "../Engine.ts"
import * as SecretsClient from "../Secrets/SecretsClient.ts"
import { pagedReply, seen } from "./PagedReply.ts"
import { type Call, checked, json, noContent, type Route, route, variable } from "./Route.ts"

export const secretRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const secretsOf = (call: Call): Raw<SecretsApi<EffectKind>> =>
    SecretsClient.make(engine.secrets(call.environment))
  const set = (call: Call, read: () => { readonly name: string; readonly value: string }) =>
    Effect.flatMap(checked(read), ({ name, value }) =>
      Effect.map(secretsOf(call).set(name, value), answerInfo)
    )

  return [
    route("listSecrets", (call) =>
      pagedReply("secrets", call.query, {
        all: (secrets) => `[${secrets}]`,
        read: (page) => seen(call, engine.secrets(call.environment).listPage(page), encode)
      })
    ),
    route("setSecret", (call) => set(call, () => setRequest(call.body))),
    route("updateSecret", (call) =>
      set(call, () => ({ name: variable(call, "name"), value: updateRequest(call.body).value }))
    ),
    route("getSecret", (call) => Effect.map(secretsOf(call).get(variable(call, "name")), answerInfo)),
    route("deleteSecret", (call) => Effect.as(secretsOf(call).delete(variable(call, "name")), noContent))
  ]
}

const setRequest = lenient(Schemas.SetSecretRequest, "Secret")
const updateRequest = lenient(Schemas.UpdateSecretRequest, "Secret")

const encode = ({ name, createdAt, updatedAt }: SecretInfo) => ({
  name,
  created_at: createdAt,
  updated_at: updatedAt
})

const answerInfo = (secret: SecretInfo) => json(encode(secret))
