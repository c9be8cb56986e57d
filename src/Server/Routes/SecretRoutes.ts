/** Manages secrets over HTTP. Values are only received; answers have names and times. */
import type { EngineService } from "../../Engine/Engine.ts"
import * as SecretsClient from "../../Engine/Secrets/SecretsClient.ts"
import { callSpecs } from "../../Protocol/Secrets.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { answerRoute, pageRoute, bodyRoute } from "./CallRoute.ts"

export const secretRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const secretsOf = (call: Call) => SecretsClient.make(engine.secrets.in(call.environment))
  const name = (call: Call): string => variable(call, "name")

  return [
    pageRoute(callSpecs.listSecrets, (call, page) =>
      visibleItems(call, engine.secrets.in(call.environment).listPage(page))
    ),
    bodyRoute(callSpecs.setSecret, "Secret", ({ name, value }, call) => secretsOf(call).set(name, value)),
    bodyRoute(callSpecs.updateSecret, "Secret", ({ value }, call) => secretsOf(call).set(name(call), value)),
    answerRoute(callSpecs.getSecret, (call) => secretsOf(call).get(name(call))),
    answerRoute(callSpecs.deleteSecret, (call) => secretsOf(call).delete(name(call)))
  ]
}
