/** Configurations against the engine in the same process: checked input, then one operation of the store. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ConfigResponse, ConfigService, ConfigWatchEvent } from "../Client/Config.ts"
import { checked } from "../Client/HttpCalls.ts"
import { type EngineError, ValidationError } from "../Errors.ts"
import type { Raw } from "../Client/Named.ts"
import { encodeJson, isObject } from "../Json.ts"
import { checkRevision } from "../KvKeys.ts"
import { decodeValue } from "../KvValue.ts"
import * as Limits from "../Limits.ts"
import type { KvEngine } from "./EngineKv.ts"
import { allPages, type Page, type PageQuery } from "./Pages.ts"
import { prompt } from "./Polite.ts"
import type { ConfigRow, KvChange } from "./Store/Store.ts"

/** Configurations that are read at once: each can have a megabyte. */
export const CONFIGS_PAGE = 16

export interface EngineConfigService extends Raw<ConfigService, EngineError> {
  /** A part of what `list` returns. */
  readonly listPage: (query: PageQuery) => Effect.Effect<Page<ConfigResponse>, EngineError>
}

export const make = ({ store, feed }: KvEngine, environment: string): EngineConfigService => {
  const listPage = ({ after, limit }: PageQuery) =>
    Effect.map(store.listConfigs(environment, after, limit), (configs): Page<ConfigResponse> => {
      const last = configs.at(-1)?.name
      return {
        items: configs.map(toResponse),
        ...(configs.length < limit || last === undefined ? {} : { nextCursor: last })
      }
    })
  const named = <A>(name: string, use: (name: string) => Effect.Effect<A, EngineError>) =>
    Effect.flatMap(
      checked(() => checkConfigName(name)),
      use
    )
  const written = (name: string, data: object, store: (data: string) => Effect.Effect<number, EngineError>) =>
    Effect.flatMap(
      checked(() => checkData(name, data)),
      (text) => Effect.map(store(text), (revision) => ({ name, revision }))
    )
  return {
    set: (name, data) => written(name, data, (text) => store.setConfig(environment, name, text)),
    patch: (name, data) => written(name, data, (text) => store.patchConfig(environment, name, text)),
    get: (name) => named(name, (name) => Effect.map(prompt(store.readConfig(environment, name)), toResponse)),
    list: () => allPages((after) => listPage({ after, limit: CONFIGS_PAGE })),
    listPage,
    delete: (name) => named(name, (name) => store.deleteConfig(environment, name)),
    watch: (name, { fromRevision, onOpen = () => undefined } = {}) =>
      Stream.unwrap(
        Effect.map(
          checked(() => {
            checkConfigName(name)
            if (fromRevision !== undefined) checkRevision(fromRevision, 0)
          }),
          () =>
            Stream.map(
              feed.watch<EngineError>({
                read: (after, limit) => store.readConfigChanges(environment, after, limit),
                from: fromRevision,
                accepts: (key) => key === name,
                onOpen,
                // nobody can delete the bucket of configurations
                deleted: () => new ValidationError("Configurations are gone")
              }),
              toEvent
            )
        )
      )
  }
}

/** Returns the name if a configuration can have it. Throws `ValidationError` or `LimitExceededError`. */
const checkConfigName = (name: unknown): string => {
  const checked = Limits.checkName("name of a configuration", name)
  if (checked !== "." && checked !== "..") return checked
  throw new ValidationError(`${JSON.stringify(checked)} cannot be the name of a configuration`)
}

const checkData = (name: string, data: unknown): string => {
  checkConfigName(name)
  const what = `Configuration "${name}"`
  const text = isObject(data) ? encodeJson(data, what) : undefined
  // something with a `toJSON` may become anything
  if (text === undefined || !text.startsWith("{")) {
    const kind = Array.isArray(data) ? "an array" : data === null ? "null" : `a ${typeof data}`
    throw new ValidationError(
      `${what} must be an object, got ${isObject(data) ? "something that is none as JSON" : kind}`
    )
  }
  return Limits.checkSize(what, text, Limits.kvValueBytes)
}

const toResponse = (row: ConfigRow): ConfigResponse => ({
  name: row.name,
  data: JSON.parse(row.data),
  revision: row.revision,
  updatedAt: new Date(row.updatedAt).toISOString()
})

const toEvent = (change: KvChange): ConfigWatchEvent => {
  const data = change.operation === "put" ? decodeValue(change.value) : undefined
  return {
    name: change.key,
    ...(isObject(data) ? { data } : {}),
    revision: change.revision,
    updatedAt: new Date(change.createdAt).toISOString()
  }
}
