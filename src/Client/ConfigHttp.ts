/** Configurations over HTTP. */
import * as Effect from "effect/Effect"
import { ConfigNotFoundError, type IronflowError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { checkConfigName, encodeConfig } from "../ConfigChecks.ts"
import * as calls from "../Protocol/Config.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import type { ConfigService, ConfigSetResult } from "./Config.ts"
import { quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { Connection } from "./HttpConnection.ts"
import { watchOf } from "./HttpWatch.ts"
import { makeOperationCalls } from "./OperationCalls.ts"

export const make = (connection: Connection): Raw<ConfigService> => {
  const { ask, listInPages } = makeOperationCalls(connection)

  /** Makes a call about one configuration. */
  const askAboutConfig = <A>(operation: Operation<A>, method: string, name: string, body?: string) =>
    Effect.flatMap(
      validated(() => checkConfigName(name)),
      (name): Effect.Effect<A, IronflowError> =>
        ask(operation, method, {
          variables: { name },
          requestMembers: { name },
          notFound: () => new ConfigNotFoundError(name),
          ...(body === undefined ? {} : { body })
        })
    )
  const write = (operation: Operation<ConfigSetResult>, method: string, name: string, data: object) =>
    Effect.flatMap(
      validated(() => encodeConfig(name, data)),
      (body) => askAboutConfig(operation, method, name, body)
    )

  return {
    set: (name, data) => write(calls.setConfig, "config.set", name, data),
    patch: (name, data) => write(calls.patchConfig, "config.patch", name, data),
    get: (name) => askAboutConfig(calls.getConfig, "config.get", name),
    list: () => listInPages(calls.listConfigs, "config.list", {}, ({ configs }) => configs),
    delete: (name) => askAboutConfig(calls.deleteConfig, "config.delete", name),
    watch: (name, options = {}) =>
      watchOf(connection, calls.watchConfig, {
        ...options,
        variables: () => ({ name: checkConfigName(name) }),
        what: `config.watch(${quote(name)})`,
        subject: name,
        requestMembers: { name },
        change: ({ data, name, revision, updatedAt }) => ({
          name,
          ...(isObject(data) ? { data } : {}),
          revision,
          updatedAt
        })
      })
  }
}
