/**
 * An engine with its HTTP server in this process, all of which is deterministic: its clock moves only when a test moves it,
 * its random numbers have a seed, and its database is in memory. Requests go to it over loopback.
 */
import * as Http from "node:http"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import { BootstrapKey } from "../../src/Engine/Access/BootstrapKey.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import * as HttpServer from "../../src/Server/Server.ts"
import { makeSettings, PushSettings } from "../../src/Engine/Push/PushSettings.ts"
import { MasterKey } from "../../src/Engine/Secrets/Secrets.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { makeClocks } from "../../src/Testing/VirtualTime.ts"
import { type Script, ScriptedServer } from "../Client/ScriptedServer.ts"

const START = Date.UTC(2030, 0, 1)
/** The longest real time of an answer that does not wait for the clock. */
const PATIENCE_MS = 10_000

export interface Sent {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Text and bytes are sent unchanged, anything else as JSON. */
  readonly body?: unknown
  /** Virtual milliseconds that the engine waits before it answers. */
  readonly waitsMs?: number | undefined
}

export interface Got {
  readonly status: number
  /** The headers in their order, without those that Node.js adds. */
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly text: string
}

/** Headers of the connection, which are not recorded. */
const connectionHeaders = new Set(["date", "connection", "keep-alive", "content-length", "transfer-encoding"])

export const headersIn = (raw: ReadonlyArray<string>): Array<[name: string, value: string]> =>
  raw.flatMap((name, i) =>
    i % 2 === 0 && !connectionHeaders.has(name.toLowerCase())
      ? [[name.toLowerCase(), raw[i + 1]!] as [string, string]]
      : []
  )

export class Rig implements AsyncDisposable {
  readonly url: string
  readonly port: number
  /** The API key of every request that sets no other; none when it is empty. */
  key = ""
  readonly #clock: ReturnType<typeof makeClocks>
  readonly #dispose: () => Promise<void>
  readonly #handlers: Array<ScriptedServer> = []
  readonly #agent = new Http.Agent({ keepAlive: true, maxSockets: 1 })

  private constructor(
    url: string,
    port: number,
    clock: ReturnType<typeof makeClocks>,
    dispose: () => Promise<void>
  ) {
    this.url = url
    this.port = port
    this.#clock = clock
    this.#dispose = dispose
  }

  /** With `bootstrapKey`, which is the operator's key, every call needs a key. */
  static async start(bootstrapKey?: string): Promise<Rig> {
    const clock = makeClocks(START)
    const random = Effect.runSync(Random.withSeed(Random.Random, "golden"))
    const runtime = ManagedRuntime.make(
      HttpServer.layer({ port: 0 }).pipe(
        Layer.provide(Engine.layer),
        Layer.provide(SqliteStore.layer({ filename: ":memory:" })),
        Layer.provide(
          Layer.mergeAll(
            Layer.succeed(BootstrapKey, bootstrapKey === undefined ? undefined : Redacted.make(bootstrapKey)),
            Layer.succeed(MasterKey, Redacted.make("ab".repeat(32))),
            Layer.succeed(
              PushSettings,
              makeSettings({ allowPrivateNetworks: true, signingKey: Redacted.make("golden") })
            ),
            Layer.succeed(Clock.Clock, clock.clock),
            Layer.succeed(Random.Random, random),
            Logger.layer([])
          )
        )
      )
    )
    const server = await runtime.runPromise(HttpServer.HttpServerEngine)
    return new Rig(server.url, server.port, clock, () => runtime.dispose())
  }

  /** Lets virtual time pass. */
  async pass(ms: number): Promise<void> {
    await Effect.runPromise(this.#clock.passTo(this.#clock.clock.currentTimeMillisUnsafe() + ms))
    // due work runs in later turns of the event loop
    await new Promise((resolve) => setImmediate(resolve))
  }

  /** Waits until something in the engine sleeps for at most `ms`, and lets that time pass. */
  async passNext(ms: number): Promise<void> {
    const { clock, nextWake } = this.#clock
    const deadline = Date.now() + PATIENCE_MS
    while (nextWake() > clock.currentTimeMillisUnsafe() + ms) {
      if (Date.now() > deadline) throw new Error(`Nothing waits for ${ms}ms`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await this.pass(ms)
  }

  async send(sent: Sent): Promise<Got> {
    const answer = this.#request(sent)
    if (sent.waitsMs !== undefined) await this.passNext(sent.waitsMs)
    return await answer
  }

  /** Starts another server for the engine to call; it stops with the rig. */
  async listen(script: Script): Promise<ScriptedServer> {
    const server = await ScriptedServer.start(script)
    this.#handlers.push(server)
    return server
  }

  #request({ body, headers, method, path }: Sent): Promise<Got> {
    const bytes =
      body === undefined || typeof body === "string" || body instanceof Uint8Array
        ? body
        : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const request = Http.request(
        this.url + path,
        {
          method,
          agent: this.#agent,
          headers: {
            ...(bytes === undefined
              ? {}
              : { "content-type": "application/json", "content-length": Buffer.byteLength(bytes) }),
            ...(this.key === "" ? {} : { authorization: `Bearer ${this.key}` }),
            ...headers
          }
        },
        (response) => {
          const chunks: Array<Buffer> = []
          response.on("data", (chunk: Buffer) => chunks.push(chunk))
          response.on("error", reject)
          response.on("end", () =>
            resolve({
              status: response.statusCode!,
              headers: headersIn(response.rawHeaders),
              text: Buffer.concat(chunks).toString()
            })
          )
        }
      )
      request.on("upgrade", ({ statusCode, rawHeaders }, socket) => {
        socket.destroy()
        resolve({ status: statusCode!, headers: headersIn(rawHeaders), text: "" })
      })
      request.setTimeout(PATIENCE_MS, () => request.destroy(new Error(`${method} ${path} was not answered`)))
      request.on("error", reject)
      request.end(bytes)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy()
    await this.#dispose()
    for (const handler of this.#handlers) await handler.stop()
  }
}
