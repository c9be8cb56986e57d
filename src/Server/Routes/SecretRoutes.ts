/** Manages secrets over HTTP. Values are only received; answers have names and times. */
import type { EngineService } from "../../Engine/Engine.ts"
import * as SecretsClient from "../../Engine/Secrets/SecretsClient.ts"
import { endpoints } from "../../Protocol/Secrets.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { answering, paging, reading } from "./EndpointRoute.ts"

export const secretRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const secretsOf = (call: Call) => SecretsClient.make(engine.secrets.in(call.environment))
  const name = (call: Call): string => variable(call, "name")

  return [
    paging(endpoints.listSecrets, (call, page) =>
      visibleItems(call, engine.secrets.in(call.environment).listPage(page))
    ),
    reading(endpoints.setSecret, "Secret", ({ name, value }, call) => secretsOf(call).set(name, value)),
    reading(endpoints.updateSecret, "Secret", ({ value }, call) => secretsOf(call).set(name(call), value)),
    answering(endpoints.getSecret, (call) => secretsOf(call).get(name(call))),
    answering(endpoints.deleteSecret, (call) => secretsOf(call).delete(name(call)))
  ]
}
