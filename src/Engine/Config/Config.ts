/** Configurations for callers in the engine's process. Each method checks its input, and then runs one program of the store. */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ConfigResponse, ConfigService, ConfigWatchEvent } from "../../Client/Config.ts"
import { validated } from "../../CheckAsEffect.ts"
import { checkConfigName, encodeConfig } from "../../ConfigChecks.ts"
import { type EngineError, ValidationError } from "../../Errors.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { isObject } from "../../Json.ts"
import { checkRevision } from "../../KvKeys.ts"
import { decodeValue } from "../../KvValue.ts"
import { KvFeed, type KvFeedService } from "../Kv/KvFeed.ts"
import { SystemEvents } from "../SystemEvents/SystemEvents.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { announceConfig } from "./ConfigEvents.ts"
import { allPages, type Page, type PageQuery } from "../Pages.ts"
import { yieldIfMany } from "../Yielding.ts"
import type { ConfigRow } from "./ConfigRows.ts"
import type { KvChange } from "../Store/Changes.ts"
import * as ConfigRows from "./ConfigRows.ts"

/** How many configurations `list` reads at once: few, since each may have a megabyte. */
export const CONFIGS_PAGE = 16

export interface EngineConfigService extends Raw<ConfigService, EngineError> {
  /** A page of `list`. */
  readonly listPage: (query: PageQuery) => Effect.Effect<Page<ConfigResponse>, EngineError>
}

export class Config extends Context.Service<
  Config,
  {
    /** The configurations of one environment. */
    readonly in: (environment: string) => EngineConfigService
  }
>()("@ironflow/node/Engine/Config") {}

/** The layer of {@link Config}. It also announces each write of a configuration as a system event. */
export const layer: Layer.Layer<Config, never, Store | KvFeed | SystemEvents> = Layer.effect(
  Config,
  Effect.gen(function* () {
    const store = yield* Store
    const feed = yield* KvFeed
    const system = yield* SystemEvents
    const stop = store.onCommit(({ configs }) => {
      for (const change of configs) announceConfig(system, change)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return { in: (environment) => make(store, feed, environment) }
  })
)

const make = (store: StoreService, feed: KvFeedService, environment: string): EngineConfigService => {
  const listPage = ({ after, limit }: PageQuery) =>
    Effect.map(
      store.read(ConfigRows.listConfigs(environment, after, limit)),
      (configs): Page<ConfigResponse> => {
        const last = configs.at(-1)?.name
        return {
          items: configs.map(toResponse),
          ...(configs.length < limit || last === undefined ? {} : { nextCursor: last })
        }
      }
    )
  const withCheckedName = <A>(name: string, use: (name: string) => Effect.Effect<A, EngineError>) =>
    Effect.flatMap(
      validated(() => checkConfigName(name)),
      use
    )
  const writeChecked = (
    name: string,
    data: object,
    write: (data: string) => Effect.Effect<number, EngineError>
  ) =>
    Effect.flatMap(
      validated(() => encodeConfig(name, data)),
      (text) => Effect.map(write(text), (revision) => ({ name, revision }))
    )
  return {
    set: (name, data) =>
      writeChecked(name, data, (text) => store.write(ConfigRows.setConfig(environment, name, text))),
    patch: (name, data) =>
      writeChecked(name, data, (text) => store.write(ConfigRows.patchConfig(environment, name, text))),
    get: (name) =>
      withCheckedName(name, (name) =>
        Effect.map(yieldIfMany(store.read(ConfigRows.readConfig(environment, name))), toResponse)
      ),
    list: () => allPages((after) => listPage({ after, limit: CONFIGS_PAGE })),
    listPage,
    delete: (name) =>
      withCheckedName(name, (name) => store.write(ConfigRows.deleteConfig(environment, name))),
    watch: (name, { fromRevision, onOpen = () => undefined } = {}) =>
      Stream.unwrap(
        Effect.map(
          validated(() => {
            checkConfigName(name)
            if (fromRevision !== undefined) checkRevision(fromRevision, 0)
          }),
          () =>
            Stream.map(
              feed.watch<EngineError>({
                read: (after, limit) => store.read(ConfigRows.readConfigChanges(environment, after, limit)),
                startAfter: fromRevision,
                accepts: (key) => key === name,
                onOpen,
                // never used: nobody can delete the bucket of configurations
                deletedError: () => new ValidationError("Configurations are gone")
              }),
              toEvent
            )
        )
      )
  }
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
