/** Manages secrets over HTTP. Values are only received; answers have names and times. */
import type { EngineService } from "../../Engine/Engine.ts"
import * as SecretsClient from "../../Engine/Secrets/SecretsClient.ts"
import { callSpecs } from "../../Protocol/Secrets.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { answering, paging, reading } from "./CallRoute.ts"

export const secretRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const secretsOf = (call: Call) => SecretsClient.make(engine.secrets.in(call.environment))
  const name = (call: Call): string => variable(call, "name")

  return [
    paging(callSpecs.listSecrets, (call, page) =>
      visibleItems(call, engine.secrets.in(call.environment).listPage(page))
    ),
    reading(callSpecs.setSecret, "Secret", ({ name, value }, call) => secretsOf(call).set(name, value)),
    reading(callSpecs.updateSecret, "Secret", ({ value }, call) => secretsOf(call).set(name(call), value)),
    answering(callSpecs.getSecret, (call) => secretsOf(call).get(name(call))),
    answering(callSpecs.deleteSecret, (call) => secretsOf(call).delete(name(call)))
  ]
}
