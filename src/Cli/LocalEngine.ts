/** Runs the engine and its HTTP server in the process of the command, on a database file or on Postgres. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { checked } from "../CheckAsEffect.ts"
import { Engine, layer as layerEngine } from "../Engine/Engine.ts"
import * as Server from "../Server/Server.ts"
import type { HookOptions } from "../Hook.ts"
import { refuseNonFile } from "../Engine/Store/Files.ts"
import { EngineHooks } from "../Engine/Hooks/HookSettings.ts"
import { makeSettings, PushSettings } from "../Engine/Push/PushSettings.ts"
import { ChecksGuarantees } from "../Engine/Guarantees/GuaranteeCheck.ts"
import { MasterKey } from "../Engine/Secrets/Secrets.ts"
import { retention, type RetentionOptions } from "../Engine/Retention.ts"
import * as SqliteStore from "../Engine/SqliteStore.ts"
import { EngineLines } from "../Engine/EngineLog.ts"
import { layerStderr, type LogChoice } from "./LogOutput.ts"
import { layerPostgres } from "../Engine/DatabaseUrl.ts"
import type { PostgresOptions } from "../Engine/Store/Postgres/Options.ts"
import { layerTraces } from "./Tracing.ts"

export interface LocalEngineOptions {
  readonly port: number
  readonly host: string
  /** Path of the database file. */
  readonly data: string
  /** A Postgres database in place of the file. */
  readonly database?: PostgresOptions
  /** Whether the engine reads the whole database file first, and does not start when the file is damaged. */
  readonly check?: boolean
  /** Whether the background check of the guarantees is off: `serve --no-audit`. */
  readonly noAudit?: boolean
  /** Whether a host other than loopback may be used without API keys: `serve --insecure`. */
  readonly insecure?: boolean
  /** Whether push endpoints and hooks may be on loopback and in private networks. */
  readonly allowPrivateEndpoints?: boolean
  /** Other origins whose pages may call the server. */
  readonly corsOrigins?: ReadonlyArray<string>
  /** Host names under which browsers reach the server. */
  readonly allowedHosts?: ReadonlyArray<string>
  /** Whether the server also serves the console. `base` is the path of the console behind a proxy. */
  readonly console?: boolean | { readonly base?: string }
  /** The mode of the database file when it is created. */
  readonly fileMode?: number
  /** How long a worker may be silent before its runs go to other workers, such as `15s`. */
  readonly leaseTerm?: string
  /** How long data is kept, as the flags say. */
  readonly keep?: RetentionOptions
  /** The master key. It takes precedence over `IRONFLOW_MASTER_KEY`. */
  readonly masterKey?: string
  /** The hooks that the engine calls about runs and functions in trouble. */
  readonly hooks?: ReadonlyArray<HookOptions>
  /** The format and level of the engine's log. */
  readonly logs: LogChoice
  /** Whether the command itself shows what happens to runs, so that the engine need not log it. */
  readonly showsRuns?: boolean
}

const retentionFlags = {
  keepRuns: "--keep-runs",
  keepEvents: "--keep-events",
  maxEventBytes: "--max-events-size",
  keepMessages: "--keep-messages",
  maxTopicBytes: "--max-topic-size"
} as const

const layer = ({
  allowPrivateEndpoints = false,
  check = false,
  data,
  database,
  fileMode,
  hooks = [],
  logs,
  keep = {},
  masterKey,
  showsRuns = false,
  noAudit = false,
  ...http
}: LocalEngineOptions) =>
  Server.layer(http).pipe(
    Layer.provideMerge(layerEngine),
    Layer.provide(
      database === undefined
        ? SqliteStore.layer({ filename: data, check, ...(fileMode === undefined ? {} : { fileMode }) })
        : layerPostgres(database)
    ),
    Layer.provide(retention(keep, retentionFlags)),
    Layer.provide(Layer.succeed(ChecksGuarantees, !noAudit)),
    Layer.provide(Layer.succeed(EngineHooks, hooks)),
    Layer.provide(masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, Redacted.make(masterKey))),
    Layer.provide(
      Layer.sync(PushSettings, () => makeSettings({ allowPrivateNetworks: allowPrivateEndpoints }))
    ),
    Layer.provide(Layer.succeed(EngineLines, !showsRuns)),
    Layer.provide(layerTraces),
    Layer.provide(layerStderr(logs))
  )

/**
 * Starts an engine that listens on its port, and runs `use`. The engine stops when `use` ends. Fails with
 * `STORE_LOCKED` when another engine has taken over the database. Then the engine of this process can do nothing, so
 * the process ends with a failure that its supervisor sees.
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
  }).pipe(
    Effect.provide(
      Layer.unwrap(
        checked(() => {
          if (options.database === undefined) refuseNonFile(options.data)
          return layer(options)
        })
      )
    )
  )
