/** Configurations over HTTP: the body of a write is the data itself. */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { CONFIGS_PAGE, type EngineConfigService } from "../../Engine/Config/Config.ts"
import { type ConfigSetResult, callSpecs } from "../../Protocol/Config.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, pageRoute } from "./CallRoute.ts"

export const configRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const configOf = (call: Call) => engine.config.in(call.environment)
  const nameOf = (call: Call): string => variable(call, "name")
  const writeRoute = (
    spec: CallSpec<ConfigSetResult>,
    write: (
      config: EngineConfigService,
      name: string,
      data: object
    ) => Effect.Effect<ConfigSetResult, IronflowError>
  ): Route =>
    answerRoute(spec, (call) =>
      Effect.flatMap(
        // the service checks the data again; this check names the configuration in its message, and tells the compiler
        // that the body is an object
        checked(() => {
          if (isObject(call.body)) return call.body
          throw new ValidationError(
            `The body must be a JSON object: it is the data of configuration "${nameOf(call)}"`
          )
        }),
        (data) => write(configOf(call), nameOf(call), data)
      )
    )

  return [
    pageRoute(
      callSpecs.listConfigs,
      (call, page) => visibleItems(call, configOf(call).listPage(page)),
      () => ({ what: "configurations", maxItems: CONFIGS_PAGE })
    ),
    answerRoute(callSpecs.getConfig, (call) => configOf(call).get(nameOf(call))),
    writeRoute(callSpecs.setConfig, (config, name, data) => config.set(name, data)),
    writeRoute(callSpecs.patchConfig, (config, name, data) => config.patch(name, data)),
    answerRoute(callSpecs.deleteConfig, (call) => configOf(call).delete(nameOf(call)))
  ]
}
