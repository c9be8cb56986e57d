/** Configurations over HTTP: the body of a write is the data itself. */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { CONFIGS_PAGE, type EngineConfigService } from "../../Engine/Config/Config.ts"
import { type ConfigSetResult, rows } from "../../Protocol/Config.ts"
import type { Row } from "../../Protocol/Row.ts"
import { seen } from "../Http/PagedReply.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../Checked.ts"
import { answering, paging } from "./RowRoute.ts"

export const configRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const configOf = (call: Call) => engine.config.in(call.environment)
  const nameOf = (call: Call): string => variable(call, "name")
  const writing = (
    row: Row<ConfigSetResult>,
    write: (
      config: EngineConfigService,
      name: string,
      data: object
    ) => Effect.Effect<ConfigSetResult, IronflowError>
  ): Route =>
    answering(row, (call) =>
      Effect.flatMap(
        // the service checks it again, with its name; here it becomes an object for the compiler
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
      rows.listConfigs,
      (call, page) => seen(call, configOf(call).listPage(page)),
      () => ({ what: "configurations", most: CONFIGS_PAGE })
    ),
    answering(rows.getConfig, (call) => configOf(call).get(nameOf(call))),
    writing(rows.setConfig, (config, name, data) => config.set(name, data)),
    writing(rows.patchConfig, (config, name, data) => config.patch(name, data)),
    answering(rows.deleteConfig, (call) => configOf(call).delete(nameOf(call)))
  ]
}
