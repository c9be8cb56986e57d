/** Settings and log lines of the Effect API: they use `ConfigProvider`, `Config` and `Logger` of Effect. */
import {
  Client,
  Engine,
  IronflowFunction,
  Serve,
  Server,
  Step,
  Store,
  Worker,
  WorkerTransport
} from "@ironflow/node/effect"
import { createWorker } from "@ironflow/node"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import { afterEach, assert, describe, it, vi } from "vitest"
import { HttpServerEngine } from "../src/Server/Server.ts"
import { MasterKey } from "../src/Engine/Secrets/Secrets.ts"
import { Secrets } from "../src/Client/Secrets.ts"

const bootstrapKey = "k".repeat(40)
const variables = (values: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromUnknown(values))
const store = Store.layerSqlite({ filename: ":memory:" })
const served = Server.layer({ port: 0 }).pipe(Layer.provideMerge(Engine.layer), Layer.provide(store))

interface Line {
  readonly level: string
  readonly text: string
}
const collecting = (): { readonly lines: Array<Line>; readonly layer: Layer.Layer<never> } => {
  const lines: Array<Line> = []
  const logger = Logger.make(({ logLevel, message }) => {
    const [text] = Array.isArray(message) ? message : [message]
    lines.push({ level: logLevel, text: String(text) })
  })
  return { lines, layer: Logger.layer([logger]) }
}
const quiet = Logger.layer([])

afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

describe("the ConfigProvider in the context", () => {
  it("has the URL of the server, the API key and the environment", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpServerEngine
      const settings = { IRONFLOW_SERVER_URL: url, IRONFLOW_API_KEY: bootstrapKey, IRONFLOW_ENV: "default" }
      const health = (values: Record<string, string>) =>
        Effect.flatMap(Client.Client, (client) => client.listRuns()).pipe(
          Effect.provide(
            Client.layerHttp().pipe(Layer.provide(FetchHttpClient.layer), Layer.provide(variables(values)))
          )
        )

      assert.strictEqual((yield* health(settings)).totalCount, 0)
      const { IRONFLOW_API_KEY: _, ...anonymous } = settings
      // the environment of the process has the key, but the ConfigProvider counts
      vi.stubEnv("IRONFLOW_API_KEY", bootstrapKey)
      assert.strictEqual((yield* Effect.flip(health(anonymous))).code, "UNAUTHENTICATED")
      const wrong = yield* Effect.flip(health({ ...settings, IRONFLOW_SERVER_URL: "nowhere" }))
      assert.match(wrong.message, /`serverUrl` "nowhere" is not valid/)
    }).pipe(
      Effect.provide(
        served.pipe(Layer.provide(variables({ IRONFLOW_BOOTSTRAP_KEY: bootstrapKey })), Layer.provide(quiet))
      ),
      Effect.runPromise
    ))

  it("has the settings of a worker and of its transport", () =>
    Effect.gen(function* () {
      const { url } = yield* HttpServerEngine
      const engine = yield* Engine.Engine
      const greet = IronflowFunction.make({ id: "greet", triggers: [{ event: "met" }] }, () =>
        Effect.succeed("hello")
      )
      const worker = Worker.layer({ functions: [greet] }).pipe(
        Layer.provide(WorkerTransport.layerPolling()),
        Layer.provide(FetchHttpClient.layer),
        Layer.provide(variables({ IRONFLOW_SERVER_URL: url, IRONFLOW_ENV: "staging" }))
      )
      const listed = yield* Effect.provide(
        Effect.flatMap(Worker.Worker, () => engine.client("staging").listFunctions()),
        worker
      )
      assert.deepStrictEqual(
        listed.map(({ id }) => id),
        ["greet"]
      )
    }).pipe(Effect.provide(served), Effect.provide(quiet), Effect.scoped, Effect.runPromise))

  it("has the keys of an engine", () =>
    Effect.gen(function* () {
      const put = (layer: Layer.Layer<Engine.Engine, unknown>) =>
        Effect.flatMap(Secrets, (secrets) => secrets.set("TOKEN", "t")).pipe(
          Effect.provide(Engine.layerClient.pipe(Layer.provide(layer)))
        )
      const engine = Engine.layer.pipe(Layer.provide(store))
      const given = variables({ IRONFLOW_MASTER_KEY: "0".repeat(64) })
      assert.strictEqual((yield* put(Layer.provide(engine, given))).name, "TOKEN")
      const missing = yield* Effect.flip(put(Layer.provide(engine, variables({}))))
      assert.deepInclude(missing, { code: "MASTER_KEY_MISSING" })
      const wrong = yield* Effect.flip(
        put(Layer.provide(engine, variables({ IRONFLOW_MASTER_KEY: "short" })))
      )
      assert.match(String(wrong), /32 bytes/)
    }).pipe(Effect.provide(quiet), Effect.runPromise))

  it("has the keys of push handlers", async () => {
    const made = Serve.make({ functions: [] }).pipe(
      Effect.flatMap((serve) =>
        serve.fetch(new Request("http://localhost/api", { method: "POST", body: "{}" }))
      ),
      Effect.map(({ status }) => status),
      Effect.provide(quiet)
    )
    const signed = variables({ IRONFLOW_SIGNING_KEY: "s".repeat(32) })
    assert.strictEqual(await Effect.runPromise(Effect.provide(made, signed)), 401)
    assert.notStrictEqual(await Effect.runPromise(Effect.provide(made, variables({}))), 401)
  })

  it("that cannot be read is reported", () =>
    Effect.gen(function* () {
      const broken = ConfigProvider.make(() =>
        Effect.fail(new ConfigProvider.SourceError({ message: "the vault is sealed" }))
      )
      const error = yield* Effect.flip(
        Effect.provide(
          Client.Client,
          Client.layerHttp().pipe(
            Layer.provide(FetchHttpClient.layer),
            Layer.provide(ConfigProvider.layer(broken))
          )
        )
      )
      assert.match(
        error.message,
        /^IRONFLOW_\w+ could not be read from the ConfigProvider: the vault is sealed/
      )
    }).pipe(Effect.runPromise))

  it("is that of the process unless another is provided", () =>
    Effect.gen(function* () {
      vi.stubEnv("IRONFLOW_SERVER_URL", "nowhere")
      const error = yield* Effect.flip(
        Effect.provide(Client.Client, Client.layerHttp().pipe(Layer.provide(FetchHttpClient.layer)))
      )
      assert.match(error.message, /"nowhere"/)
    }).pipe(Effect.runPromise))
})

describe("layerConfig", () => {
  const provider = (values: Record<string, string>) =>
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(values))

  it("of a client, a worker and an engine accepts Configs", () =>
    Effect.gen(function* () {
      const engine = yield* Layer.build(
        Server.layer({ port: 0 }).pipe(
          Layer.provideMerge(
            Engine.layerConfig({
              masterKey: Config.Redacted("SHOP_MASTER_KEY"),
              bootstrapKey: Config.Redacted("SHOP_BOOTSTRAP_KEY")
            })
          ),
          Layer.provide(store)
        )
      )
      const { url } = yield* Effect.provide(HttpServerEngine, engine)
      const shop = Effect.provideService(
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromUnknown({
          SHOP_URL: url,
          SHOP_KEY: bootstrapKey,
          SHOP_JOBS: "3",
          SHOP_WORKER: "w-1"
        })
      )
      const client = Client.layerConfig({
        serverUrl: Config.String("SHOP_URL"),
        apiKey: Config.Redacted("SHOP_KEY"),
        timeout: 5000
      }).pipe(Layer.provide(FetchHttpClient.layer))
      const worker = Worker.layerConfig({
        functions: [],
        maxConcurrentJobs: Config.Int("SHOP_JOBS"),
        workerId: Config.String("SHOP_WORKER")
      }).pipe(Layer.provide(WorkerTransport.layerMemory), Layer.provide(Layer.succeedContext(engine)))

      const workers = yield* Effect.gen(function* () {
        yield* Worker.Worker
        return yield* (yield* Client.Client).listWorkers()
      }).pipe(Effect.provide([client, worker]), shop)

      assert.deepStrictEqual(
        workers.map(({ id, maxConcurrentJobs }) => [id, maxConcurrentJobs]),
        [["w-1", 3]]
      )
    }).pipe(
      provider({ SHOP_MASTER_KEY: "0".repeat(64), SHOP_BOOTSTRAP_KEY: bootstrapKey }),
      Effect.provide(quiet),
      Effect.scoped,
      Effect.runPromise
    ))

  it("fails with the error of a Config", () =>
    Effect.gen(function* () {
      const missing = yield* Effect.flip(
        Effect.provide(
          Client.Client,
          Client.layerConfig({ serverUrl: Config.String("SHOP_URL") }).pipe(
            Layer.provide(FetchHttpClient.layer)
          )
        )
      )
      assert.strictEqual(missing._tag, "ConfigError")
    }).pipe(provider({}), Effect.runPromise))

  it("prefers services that are provided in code to variables", () =>
    Effect.gen(function* () {
      const engine = Engine.layerConfig().pipe(Layer.provide(store))
      const put = Effect.flatMap(Secrets, (secrets) => secrets.set("TOKEN", "t")).pipe(
        Effect.provide(Engine.layerClient.pipe(Layer.provide(engine)))
      )
      assert.deepInclude(yield* Effect.flip(put), { code: "MASTER_KEY_MISSING" })
      const given = Effect.provideService(put, MasterKey, Redacted.make("0".repeat(64)))
      assert.strictEqual((yield* given).name, "TOKEN")
    }).pipe(provider({}), Effect.provide(quiet), Effect.runPromise))
})

describe("Effect's loggers", () => {
  const chatty = IronflowFunction.make({ id: "chatty", triggers: [{ event: "met" }] }, ({ logger }) =>
    Effect.gen(function* () {
      logger.info("before the step")
      yield* Step.run("greet", Effect.succeed("hello"))
      logger.debug("after the step")
      return "done"
    })
  )
  const met = Effect.gen(function* () {
    yield* Worker.Worker
    const client = yield* Client.Client
    const { runIds } = yield* client.emit("met", {})
    yield* client.waitForRun(runIds[0]!)
  })
  const app = Layer.mergeAll(
    Worker.layer({
      functions: [chatty, IronflowFunction.make({ id: "idle", triggers: [] }, () => Effect.void)]
    }).pipe(Layer.provide(WorkerTransport.layerMemory)),
    Engine.layerClient
  ).pipe(Layer.provide(Engine.layer), Layer.provide(store))

  it("receive every line of worker, handlers and engine, and the console receives none", async () => {
    const consoles = (["log", "info", "warn", "error", "debug"] as const).map((method) =>
      vi.spyOn(console, method).mockImplementation(() => undefined)
    )
    const { layer, lines } = collecting()

    await Effect.runPromise(Effect.provide(met, Layer.provide(app, layer)))

    const texts = lines.map(({ level, text }) => `${level} ${text}`)
    assert.isTrue(
      texts.some((text) => /^Info \[ironflow:\w+\] before the step$/.test(text)),
      texts.join("\n")
    )
    assert.isFalse(texts.some((text) => text.includes("after the step")))
    for (const console of consoles) assert.strictEqual(console.mock.calls.length, 0)
  })

  it("receive the lines of a worker that cannot reach its server", () =>
    Effect.gen(function* () {
      const { layer, lines } = collecting()
      const worker = Worker.layer({ functions: [chatty] }).pipe(
        Layer.provide(WorkerTransport.layerPolling({ serverUrl: "http://127.0.0.1:9", reconnectDelay: 5 })),
        Layer.provide(FetchHttpClient.layer),
        Layer.provide(layer)
      )
      yield* Effect.forkChild(Effect.provide(Effect.never, worker))
      yield* Effect.promise(() =>
        vi.waitFor(() => assert.match(lines.map(({ text }) => text).join("\n"), /127\.0\.0\.1:9/))
      )
    }).pipe(Effect.scoped, Effect.runPromise))

  it.each([
    ["IRONFLOW_LOG_LEVEL is debug", { IRONFLOW_LOG_LEVEL: "debug" }, undefined, true, true],
    ["IRONFLOW_LOG_LEVEL is silent", { IRONFLOW_LOG_LEVEL: "silent" }, undefined, false, false],
    [
      "MinimumLogLevel is provided, which takes precedence",
      { IRONFLOW_LOG_LEVEL: "silent" },
      "Debug",
      true,
      true
    ],
    ["nothing is configured", {}, undefined, true, false]
  ] as const)("have the lowest level when %s", async (_, values, level, info, debug) => {
    const { layer, lines } = collecting()
    const minimum = level === undefined ? Layer.empty : Layer.succeed(References.MinimumLogLevel, level)

    await Effect.runPromise(Effect.provide(met, app.pipe(Layer.provide([layer, minimum, variables(values)]))))

    const has = (text: string) => lines.some((line) => line.text.includes(text))
    assert.deepStrictEqual([has("before the step"), has("after the step")], [info, debug])
  })

  it("receive no lines of clients and workers with a logger of their own, as in the Promise API", async () => {
    const said: Array<string> = []
    const line = (text: string) => void said.push(text)
    const logger = { debug: line, info: line, warn: line, error: line }
    const { layer, lines } = collecting()
    const unreachable = { serverUrl: "http://127.0.0.1:9", reconnectDelay: 5, logger }
    const heard = () => vi.waitFor(() => assert.match(said.splice(0).join("\n"), /127\.0\.0\.1:9/))

    const worker = Worker.layer({ functions: [chatty], logger }).pipe(
      Layer.provide(WorkerTransport.layerPolling(unreachable)),
      Layer.provide(FetchHttpClient.layer),
      Layer.provide(layer)
    )
    await Effect.runPromise(
      Effect.scoped(
        Effect.andThen(Effect.forkScoped(Effect.provide(Effect.never, worker)), Effect.promise(heard))
      )
    )
    assert.deepStrictEqual(lines, [])

    const promised = createWorker({ ...unreachable, functions: [] })
    const ended = promised.start().catch(() => undefined)
    await heard()
    await promised.stop()
    await ended
  })
})
