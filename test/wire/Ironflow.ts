/** An engine with its HTTP server on a free port, in this process: what the tests of the wire talk to. */
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
  /** The operator's own key: as soon as there is one, every call needs a key. */
  readonly bootstrapKey?: string
  /** What secrets are sealed with. */
  readonly masterKey?: string
  /** Push endpoints of this machine may be called, with requests that this signs. */
  readonly signingKey?: string
  /** Where the files of the console are; where a build puts them otherwise. */
  readonly consoleFolder?: string
}

export interface Ironflow extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Lets virtual time pass, in milliseconds. */
  readonly pass: (ms: number) => Promise<void>
  /** Lets virtual time pass in steps until the condition holds; gives up after `steps`. */
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
    // what has come due is done in other turns of the event loop
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
      throw new Error(`It did not happen within ${steps} steps of ${stepMs}ms`)
    },
    countStuckRuns: () =>
      runtime.runPromise(Effect.flatMap(Engine.Engine, (engine) => engine.runs.countStuck)),
    close: () => runtime.dispose(),
    [Symbol.asyncDispose]: () => runtime.dispose()
  }
}

/** A path for a database that is gone with the test. */
export const temporaryDatabase = (): { readonly filename: string } & Disposable => {
  const folder = mkdtempSync(join(tmpdir(), "ironflow-wire-"))
  return {
    filename: join(folder, "engine.db"),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true })
  }
}
