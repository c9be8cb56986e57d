/** An engine with its HTTP server on a free port, in this process, for tests of the wire. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { BootstrapKey } from "../../src/Engine/Access/BootstrapKey.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import { makeSettings, PushSettings } from "../../src/Engine/Push/PushSettings.ts"
import { MasterKey } from "../../src/Engine/Secrets/Secrets.ts"
import { ConsoleFolder } from "../../src/Server/Http/ConsoleFiles.ts"
import * as HttpServer from "../../src/Server/Server.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"

export interface StartOptions extends HttpServer.HttpServerOptions {
  readonly filename?: string
  /** Time stands still until `pass` moves it. */
  readonly virtualTime?: boolean
  /** The operator's key. With it, every call needs a key. */
  readonly bootstrapKey?: string
  /** The key that encrypts secrets. */
  readonly masterKey?: string
  /** Signs requests to push endpoints; with it, endpoints on this machine are allowed. */
  readonly signingKey?: string
  /** The folder of the console's files; by default that of the build. */
  readonly consoleFolder?: string
}

export interface Ironflow extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Lets virtual time pass, in milliseconds. */
  readonly pass: (ms: number) => Promise<void>
  /** Lets virtual time pass in steps until the condition holds; fails after `steps`. */
  readonly passUntil: (condition: () => Promise<boolean>, stepMs: number, steps?: number) => Promise<void>
  readonly countStuckRuns: () => Promise<number>
  readonly close: () => Promise<void>
}

export const start = async ({
  bootstrapKey,
  consoleFolder,
  filename,
  masterKey,
  signingKey,
  virtualTime,
  ...options
}: StartOptions = {}): Promise<Ironflow> => {
  const served = HttpServer.layer({ port: 0, ...options }).pipe(
    Layer.provideMerge(Engine.layer),
    Layer.provide(SqliteStore.layer({ filename: filename ?? ":memory:" })),
    Layer.provide(
      Layer.succeed(BootstrapKey, bootstrapKey === undefined ? undefined : Redacted.make(bootstrapKey))
    ),
    Layer.provide(masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, Redacted.make(masterKey))),
    Layer.provide(
      signingKey === undefined
        ? Layer.empty
        : Layer.succeed(
            PushSettings,
            makeSettings({ allowPrivateNetworks: true, signingKey: Redacted.make(signingKey) })
          )
    ),
    Layer.provide(consoleFolder === undefined ? Layer.empty : Layer.succeed(ConsoleFolder, consoleFolder))
  )
  const quiet = Logger.layer([])
  const runtime = ManagedRuntime.make(
    virtualTime === true
      ? Layer.provideMerge(served, Layer.merge(TestClock.layer(), quiet))
      : Layer.provideMerge(served, quiet)
  )
  const server = await runtime.runPromise(HttpServer.HttpServerEngine)
  const pass = async (ms: number) => {
    // the clock in the runtime is a test clock exactly when time is virtual
    await runtime.runPromise(TestClock.adjust(ms))
    // due work runs in later turns of the event loop
    await new Promise((resolve) => setImmediate(resolve))
  }
  return {
    url: server.url,
    port: server.port,
    pass,
    passUntil: async (condition, stepMs, steps = 400) => {
      for (let i = 0; i < steps; i++) {
        if (await condition()) return
        await pass(stepMs)
      }
      throw new Error(`The condition did not hold within ${steps} steps of ${stepMs}ms`)
    },
    countStuckRuns: () =>
      runtime.runPromise(Effect.flatMap(Engine.Engine, (engine) => engine.runs.countStuck)),
    close: () => runtime.dispose(),
    [Symbol.asyncDispose]: () => runtime.dispose()
  }
}

/** A path for a database that is deleted after the test. */
export const temporaryDatabase = (): { readonly filename: string } & Disposable => {
  const folder = mkdtempSync(join(tmpdir(), "ironflow-wire-"))
  return {
    filename: join(folder, "engine.db"),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true })
  }
}
