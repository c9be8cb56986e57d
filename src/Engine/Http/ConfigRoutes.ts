/** Configurations over HTTP: the body of a write is the data itself. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { EngineService } from "../Engine.ts"
import { CONFIGS_PAGE } from "../EngineConfig.ts"
import { allAsJson, readPageQuery } from "../Pages.ts"
import { type Call, checked, json, noContent, type Route, route, variable } from "./Route.ts"

export const configRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const configOf = (call: Call) => engine.config(call.environment)
  const nameOf = (call: Call): string => variable(call, "name")
  /** The service checks it again, with the name; here it becomes an object for the compiler. */
  const dataOf = (call: Call) =>
    checked(() => {
      if (isObject(call.body)) return call.body
      throw new ValidationError(
        `The body must be a JSON object: it is the data of configuration "${nameOf(call)}"`
      )
    })

  return [
    route("listConfigs", (call) =>
      Effect.flatMap(
        checked(() => readPageQuery(call.query, CONFIGS_PAGE)),
        (page) =>
          page === undefined
            ? Effect.map(
                allAsJson("all configurations", (after) =>
                  Effect.map(
                    configOf(call).listPage({ after, limit: CONFIGS_PAGE }),
                    ({ items, ...next }) => ({ items: items.filter(({ name }) => call.shows(name)), ...next })
                  )
                ),
                ({ text }) => ({ status: 200, text: `{"configs":[${text}]}` })
              )
            : Effect.map(configOf(call).listPage(page), ({ items, ...next }) =>
                json({ configs: items.filter(({ name }) => call.shows(name)), ...next })
              )
      )
    ),
    route("getConfig", (call) => Effect.map(configOf(call).get(nameOf(call)), (config) => json(config))),
    route("setConfig", (call) =>
      Effect.flatMap(dataOf(call), (data) =>
        Effect.map(configOf(call).set(nameOf(call), data), (set) => json(set))
      )
    ),
    route("patchConfig", (call) =>
      Effect.flatMap(dataOf(call), (data) =>
        Effect.map(configOf(call).patch(nameOf(call), data), (set) => json(set))
      )
    ),
    route("deleteConfig", (call) => Effect.as(configOf(call).delete(nameOf(call)), noContent))
  ]
}
