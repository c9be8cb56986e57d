/** An engine with its HTTP server, which tests call over loopback as if it were another process. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Engine from "../../src/Engine/Engine.ts"
import * as Server from "../../src/Server/Server.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"

export class EngineServer implements AsyncDisposable {
  readonly #folder: string
  #runtime: ManagedRuntime.ManagedRuntime<Server.HttpServerEngine, unknown> | undefined
  port = 0

  private constructor() {
    this.#folder = mkdtempSync(join(tmpdir(), "ironflow-"))
  }

  static async start(): Promise<EngineServer> {
    const server = new EngineServer()
    await server.start()
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Starts again on the same database and port. */
  async start(): Promise<void> {
    this.#runtime = ManagedRuntime.make(
      Server.layer({ port: this.port }).pipe(
        Layer.provide(Engine.layer),
        Layer.provide(SqliteStore.layer({ filename: join(this.#folder, "ironflow.db") })),
        Layer.provide(Logger.layer([]))
      )
    )
    this.port = (await this.#runtime.runPromise(Server.HttpServerEngine)).port
  }

  async stop(): Promise<void> {
    await this.#runtime?.dispose()
    this.#runtime = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true })
  }
}
