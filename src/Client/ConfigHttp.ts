/** The configurations of a server elsewhere. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ConfigNotFoundError, type IronflowError, ValidationError } from "../Errors.ts"
import { encodeJson, isObject, numberOf, textOf } from "../Json.ts"
import { checkRevision } from "../KvKeys.ts"
import { checkName } from "../Limits.ts"
import { type Endpoint, endpoints, pathOf, sockets } from "../Protocol/Http/Endpoints.ts"
import type {
  ConfigEntry,
  ConfigResponse,
  ConfigService,
  ConfigSetResult,
  ConfigWatchEvent
} from "./Config.ts"
import { type Call, checked, done, makeCalls, quote } from "./HttpCalls.ts"
import type { Raw } from "./Named.ts"
import type { Connection } from "./HttpConnection.ts"
import { callPages } from "./HttpPages.ts"
import { watch } from "./HttpWatch.ts"

export const make = (connection: Connection): Raw<ConfigService> => {
  const calls = makeCalls(connection)
  const { call } = calls
  const nameOf = (name: string): string => checkName("name of a configuration", name)

  const on = <A>(
    endpoint: Endpoint,
    method: string,
    name: string,
    more: Pick<Call<A>, "read" | "repeatable"> & Partial<Call<A>>
  ): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      checked(() => nameOf(name)),
      () =>
        call<A>({
          endpoint,
          variables: { name },
          what: `${method}(${quote(name)})`,
          notFound: () => new ConfigNotFoundError(name),
          ...more
        })
    )
  const write = (endpoint: Endpoint, method: string, name: string, data: object) =>
    Effect.flatMap(
      checked(() => {
        const what = `Configuration ${quote(name)}`
        const text = isObject(data) ? encodeJson(data, what) : undefined
        if (text === undefined) throw new ValidationError(`${what} must be an object, got ${describe(data)}`)
        return text
      }),
      (body) =>
        on<ConfigSetResult>(endpoint, method, name, {
          body,
          repeatable: false,
          read: (answer) =>
            isObject(answer)
              ? { name: textOf(answer.name, name), revision: numberOf(answer.revision) }
              : undefined
        })
    )

  return {
    set: (name, data) => write(endpoints.setConfig, "set", name, data),
    patch: (name, data) => write(endpoints.patchConfig, "patch", name, data),
    get: (name) =>
      on<ConfigResponse>(endpoints.getConfig, "get", name, {
        repeatable: true,
        read: (answer) => {
          const entry = readConfig(answer, name)
          return entry === undefined ? undefined : { ...entry, data: entry.data ?? {} }
        }
      }),
    list: () =>
      callPages<ConfigEntry>(calls, {
        endpoint: endpoints.listConfigs,
        what: "list()",
        repeatable: true,
        read: (answer) =>
          isObject(answer)
            ? (Array.isArray(answer.configs) ? answer.configs : []).flatMap((item) => readConfig(item) ?? [])
            : undefined
      }),
    delete: (name) =>
      Effect.asVoid(on(endpoints.deleteConfig, "delete", name, { repeatable: true, read: () => done })),
    watch: (name, { fromRevision, onOpen } = {}) =>
      Stream.unwrap(
        Effect.map(
          checked(() => {
            if (fromRevision !== undefined) checkRevision(fromRevision, 0)
            return pathOf({ path: sockets.watchConfig }, { name: nameOf(name) })
          }),
          (path) =>
            watch<ConfigWatchEvent>(connection, {
              path,
              query: {},
              what: `watch(${quote(name)})`,
              from: fromRevision,
              onOpen,
              notFound: () => new ConfigNotFoundError(name),
              read: (frame) => {
                const change = frame.type === "config_update" ? readConfig(frame, name) : undefined
                return change === undefined ? undefined : { revision: change.revision, change }
              }
            })
        )
      )
  }
}

const describe = (data: unknown): string =>
  Array.isArray(data) ? "an array" : data === null ? "null" : `a ${typeof data}`

const readConfig = (answer: unknown, name?: string): ConfigEntry | undefined => {
  if (!isObject(answer)) return undefined
  const said = typeof answer.name === "string" ? answer.name : name
  if (said === undefined) return undefined
  return {
    name: said,
    ...(isObject(answer.data) ? { data: answer.data } : {}),
    revision: numberOf(answer.revision),
    updatedAt: textOf(answer.updatedAt ?? answer.updated_at)
  }
}
