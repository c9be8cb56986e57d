/** Configurations over HTTP: the body of a write is the data itself. */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { CONFIGS_PAGE, type EngineConfigService } from "../../Engine/Config/Config.ts"
import { type ConfigSetResult, endpoints } from "../../Protocol/Config.ts"
import type { EndpointSpec } from "../../Protocol/EndpointSpec.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answering, paging } from "./EndpointRoute.ts"

export const configRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const configOf = (call: Call) => engine.config.in(call.environment)
  const nameOf = (call: Call): string => variable(call, "name")
  const writing = (
    endpoint: EndpointSpec<ConfigSetResult>,
    write: (
      config: EngineConfigService,
      name: string,
      data: object
    ) => Effect.Effect<ConfigSetResult, IronflowError>
  ): Route =>
    answering(endpoint, (call) =>
      Effect.flatMap(
        // the service checks the data again; this check says which configuration is meant, and makes it an
        // object for the compiler
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
    paging(
      endpoints.listConfigs,
      (call, page) => visibleItems(call, configOf(call).listPage(page)),
      () => ({ what: "configurations", most: CONFIGS_PAGE })
    ),
    answering(endpoints.getConfig, (call) => configOf(call).get(nameOf(call))),
    writing(endpoints.setConfig, (config, name, data) => config.set(name, data)),
    writing(endpoints.patchConfig, (config, name, data) => config.patch(name, data)),
    answering(endpoints.deleteConfig, (call) => configOf(call).delete(nameOf(call)))
  ]
}
