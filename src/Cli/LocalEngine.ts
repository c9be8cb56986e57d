/** The engine and its HTTP server in the process of the command, on a database file. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Engine, layer as layerEngine } from "../Engine/Engine.ts"
import * as Server from "../Engine/Http/Server.ts"
import { makeSettings, PushSettings } from "../Engine/Push/Settings.ts"
import { MasterKey } from "../Engine/Secrets/Secrets.ts"
import * as Sqlite from "../Engine/Store/Sqlite.ts"
import { resolveLogger } from "../Logger.ts"
import { layerLogger } from "../Promise/EngineLogs.ts"

export interface LocalEngineOptions {
  readonly port: number
  readonly host: string
  /** Path of the database file. */
  readonly data: string
  /** Whether the whole file is read first, which fails when something in it is damaged. */
  readonly check?: boolean
  /** For `serve --insecure`. */
  readonly insecure?: boolean
  /** Whether endpoints in push mode may be on loopback and in private networks. */
  readonly allowPrivateEndpoints?: boolean
  /** Origins of other hosts whose pages are answered. */
  readonly corsOrigins?: ReadonlyArray<string>
  /** Names under which browsers reach it. */
  readonly allowedHosts?: ReadonlyArray<string>
  /** Of the database file when it is made. */
  readonly fileMode?: number
  /** How long a worker may be silent before its runs go to others: `15s`. */
  readonly leaseTerm?: string
  /** Instead of `IRONFLOW_MASTER_KEY`. */
  readonly masterKey?: string
}

const layer = ({
  allowPrivateEndpoints = false,
  check = false,
  data,
  fileMode,
  masterKey,
  ...http
}: LocalEngineOptions) =>
  Server.layer(http).pipe(
    Layer.provideMerge(layerEngine),
    Layer.provide(Sqlite.layer({ filename: data, check, ...(fileMode === undefined ? {} : { fileMode }) })),
    Layer.provide(masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, Redacted.make(masterKey))),
    Layer.provide(
      Layer.sync(PushSettings, () => makeSettings({ allowPrivateNetworks: allowPrivateEndpoints }))
    ),
    Layer.provide(layerLogger(resolveLogger(undefined, "[ironflow]")))
  )

/**
 * Runs `use` beside an engine that listens, which stops when it ends. Fails with `STORE_LOCKED` when another engine has taken the
 * database over: this one does nothing any more, and whoever supervises the process is to know.
 */
export const withLocalEngine = <A, E, R>(
  options: LocalEngineOptions,
  use: (local: {
    readonly engine: Engine["Service"]
    readonly server: Server.HttpServerEngine["Service"]
  }) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const server = yield* Server.HttpServerEngine
    return yield* Effect.raceFirst(use({ engine, server }), engine.lost)
  }).pipe(Effect.provide(layer(options)))
