/** Misspelled options, wherever users write options: in both APIs, with an embedded engine and over HTTP. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import * as Stream from "effect/Stream"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { afterAll, beforeAll, vi } from "vitest"
import {
  Client,
  Event,
  IronflowFunction,
  Kv,
  Projection,
  Serve,
  Step,
  Streams,
  Subscriptions,
  Worker,
  WorkerTransport
} from "../src/effect.ts"
import { startEngine } from "../src/engine.ts"
import { ValidationError } from "../src/Errors.ts"
import {
  createClient,
  createFunction,
  createProjection,
  createSubscriptionClient,
  createWebhook,
  createWorker,
  defineEvent,
  serve
} from "../src/index.ts"
import { checkKeys } from "../src/OptionKeys.ts"
import type { IronflowEngine } from "../src/Promise/Engine.ts"
import { createTestClient, createTestEngine } from "../src/test.ts"

/** Options that the compiler has not checked. */
// oxlint-disable-next-line typescript/no-explicit-any -- every option here is wrong on purpose
const wrong = (options: object): any => options

/** A null instead of options, which the compiler has not checked. */
const none: any = null // oxlint-disable-line typescript/no-explicit-any

const triggers = [{ event: "order.placed" }]
const handler = async (): Promise<void> => undefined
const silent = { logger: false } as const
const ok = { id: "order", triggers }

const messageOf = async (run: () => unknown): Promise<string> => {
  try {
    await run()
  } catch (error) {
    assert.instanceOf(error, ValidationError)
    return error.message
  }
  return "accepted"
}

describe("a misspelled option", () => {
  const definitions: ReadonlyArray<readonly [() => unknown, string]> = [
    [
      () => createFunction(wrong({ ...ok, retri: {} }), handler),
      'Function "order" has no option `retri`: did you mean `retry`?'
    ],
    [
      () => createFunction(wrong({ ...ok, retry: { maxAttemps: 2 } }), handler),
      'Function "order": retry has no option `maxAttemps`: did you mean `maxAttempts`?'
    ],
    [
      () => createFunction(wrong({ ...ok, concurrency: { limit: 1, kye: "a" } }), handler),
      'Function "order": concurrency has no option `kye`: did you mean `key`?'
    ],
    [
      () =>
        createFunction(wrong({ ...ok, triggers: [...triggers, { event: "a", expresion: "true" }] }), handler),
      'Function "order": triggers[1] has no option `expresion`: did you mean `expression`?'
    ],
    [
      () => createFunction(wrong({ ...ok, step_timeout: "1s" }), handler),
      'Function "order" has no option `step_timeout`: did you mean `stepTimeout`?'
    ],
    [
      () => IronflowFunction.make(wrong({ ...ok, concurency: { limit: 1 } }), () => Effect.void),
      'Function "order" has no option `concurency`: did you mean `concurrency`?'
    ],
    [
      () =>
        createProjection(wrong({ name: "totals", events: ["a"], handler: () => undefined, batchsize: 1 })),
      'Projection "totals" has no option `batchsize`: did you mean `batchSize`?'
    ],
    [
      () =>
        Projection.make(wrong({ name: "totals", events: ["a"], handler: () => Effect.void, maxRetrys: 1 })),
      'Projection "totals" has no option `maxRetrys`: did you mean `maxRetries`?'
    ],
    [
      () => createWebhook(wrong({ id: "stripe", verify: () => 1, transform: () => ({}), transfrom: 1 })),
      'Webhook "stripe" has no option `transfrom`: did you mean `transform`?'
    ],
    [
      () => defineEvent(wrong({ name: "order.placed", version: 2, upcats: () => ({}) })),
      'Event "order.placed" has no option `upcats`: did you mean `upcast`?'
    ],
    [
      () => Event.define("order.placed", wrong({ data: {}, versoin: 2 })),
      'Event "order.placed" has no option `versoin`: did you mean `version`?'
    ],
    [
      () => createClient(wrong({ serverURl: "http://localhost", retries: 2 })),
      "createClient() has no option `serverURl`: did you mean `serverUrl`?"
    ],
    [
      () => createClient(wrong({ retry: { maxAttempt: 2 } })),
      "createClient(): retry has no option `maxAttempt`: did you mean `maxAttempts`?"
    ],
    [
      () => createClient(wrong({ enviroment: "test" })),
      "createClient() has no option `enviroment`: did you mean `environment`?"
    ],
    [
      () => createSubscriptionClient(wrong({ autoReconect: false })),
      "createSubscriptionClient() has no option `autoReconect`: did you mean `autoReconnect`?"
    ],
    [
      () => createWorker(wrong({ functions: [], ...silent, maxConcurentJobs: 1 })),
      "Worker has no option `maxConcurentJobs`: did you mean `maxConcurrentJobs`?"
    ],
    [
      () => createWorker(wrong({ functions: [], ...silent, transprot: "streaming" })),
      "Worker has no option `transprot`: did you mean `transport`?"
    ],
    [
      () => serve(wrong({ functions: [], ...silent, signinKey: "a" })),
      "serve() has no option `signinKey`: did you mean `signingKey`?"
    ],
    [
      () => startEngine(wrong({ filname: ":memory:", ...silent })),
      "startEngine() has no option `filname`: did you mean `filename`?"
    ],
    [
      () => startEngine(wrong({ filename: ":memory:", ...silent, push: { maxConcurent: 1 } })),
      "startEngine(): push has no option `maxConcurent`: did you mean `maxConcurrent`?"
    ],
    [
      () => startEngine(wrong({ filename: ":memory:", ...silent, listen: { prt: 0 } })),
      "The HTTP server has no option `prt`: did you mean `port`?"
    ],
    [
      () => startEngine(wrong({ filename: ":memory:", ...silent, listen: { port: 0, leaseterms: "3s" } })),
      "The HTTP server has no option `leaseterms`: did you mean `leaseTerm`?"
    ],
    [
      () => createTestClient(wrong({ functions: [], function: [] })),
      "createTestClient() has no option `function`: did you mean `functions`?"
    ],
    [
      () => createTestEngine(wrong({ startat: "2030-01-01" })),
      "The test engine has no option `startat`: did you mean `startAt`?"
    ],
    [
      () => Effect.runPromise(Serve.make({ functions: [], ...silent, ...({ turnBuget: "1s" } as object) })),
      "serve() has no option `turnBuget`: did you mean `turnBudget`?"
    ]
  ]
  for (const [define, message] of definitions) {
    it(`is refused by name: ${message}`, async () => {
      assert.strictEqual(await messageOf(define), message)
    })
  }

  it("is refused by an Effect worker and its transport", async () => {
    const layer = (options: object, transport: object) =>
      Worker.layer({ functions: [], ...silent, ...options }).pipe(
        Layer.provide(
          WorkerTransport.layerPolling(wrong(transport)).pipe(Layer.provide(FetchHttpClient.layer))
        )
      )
    const build = (options: object, transport: object) => () =>
      Effect.runPromise(Effect.scoped(Effect.asVoid(Layer.build(layer(options, transport)))))

    assert.match(
      await messageOf(build({ draintimeout: "1s" }, {})),
      /Worker has no option `draintimeout`: did you mean `drainTimeout`\?/
    )
    assert.match(
      await messageOf(build({}, { serverurls: "http://localhost:1" })),
      /has no option `serverurls`: did you mean `serverUrl`\?/
    )
  })

  describe("of a call", () => {
    let engine: IronflowEngine
    beforeAll(async () => {
      engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    })
    afterAll(() => engine.close())

    const calls: ReadonlyArray<readonly [(client: ReturnType<typeof createClient>) => unknown, string]> = [
      [
        (it) => it.emit("a", {}, wrong({ idempotencykey: "1" })),
        "emit() has no option `idempotencykey`: did you mean `idempotencyKey`?"
      ],
      [
        (it) => it.emitSync("a", {}, wrong({ timeuot: 1 })),
        "emitSync() has no option `timeuot`: did you mean `timeout`?"
      ],
      [
        (it) => it.listRuns(wrong({ functionid: "a" })),
        "listRuns() has no option `functionid`: did you mean `functionId`?"
      ],
      [
        (it) => it.streams.append("o-1", wrong({ name: "a", entitytype: "order" })),
        "streams.append() has no option `entitytype`: did you mean `entityType`?"
      ],
      [
        (it) => it.streams.append("o-1", { name: "a", entityType: "order" }, wrong({ expectedVerion: 1 })),
        "streams.append() has no option `expectedVerion`: did you mean `expectedVersion`?"
      ],
      [
        (it) =>
          it.streams.appendAll("o-1", wrong({ entityType: "order", events: [{ name: "a" }, { nmae: "b" }] })),
        "streams.appendAll(): events[1] has no option `nmae`: did you mean `name`?"
      ],
      [
        (it) => it.kv().createBucket(wrong({ name: "a", ttlSecond: 1 })),
        "kv.createBucket() has no option `ttlSecond`: did you mean `ttlSeconds`?"
      ],
      [
        (it) =>
          it
            .kv()
            .bucket("a")
            .delete("k", wrong({ revison: 1 })),
        "kv.bucket.delete() has no option `revison`: did you mean `revision`?"
      ],
      [
        (it) => it.config().set("a", {}, wrong({ singal: 1 })),
        "config.set() has no option `singal`: did you mean `signal`?"
      ],
      [
        (it) => it.projections.get("a", wrong({ partion: "b" })),
        "projections.get() has no option `partion`: did you mean `partition`?"
      ],
      [
        (it) => it.consumerGroups.create(wrong({ name: "a", pattern: "b", maxInfligth: 1 })),
        "consumerGroups.create() has no option `maxInfligth`: did you mean `maxInflight`?"
      ],
      [
        (it) => it.apiKeys.create(wrong({ name: "a", expiresin: "1d", expiresInn: "1d" })),
        "apiKeys.create() has no option `expiresin`: did you mean `expires_in`?"
      ]
    ]
    for (const [call, message] of calls) {
      it(`is refused in the process and over HTTP: ${message}`, async () => {
        const remote = createClient({ serverUrl: engine.url })
        try {
          assert.strictEqual(await messageOf(() => call(engine.client)), message)
          assert.strictEqual(await messageOf(() => call(remote)), message)
        } finally {
          await remote.close()
        }
      })
    }

    const nothing: ReadonlyArray<readonly [(client: ReturnType<typeof createClient>) => unknown, string]> = [
      [(it) => it.emit("a", {}, none), "emit() needs an object that may have `"],
      [(it) => it.publish("a", {}, none), "publish() needs an object that may have `"],
      [(it) => it.listRuns(none), "listRuns() needs an object that may have `"],
      [(it) => it.waitForRun("run_1", none), "waitForRun() needs an object that may have `"],
      [(it) => it.streams.read("o-1", none), "streams.read() needs an object that may have `"],
      [
        (it) => it.streams.append("o-1", none),
        "streams.append() needs an object such as { name, data, entityType }, got null"
      ],
      [
        (it) => it.streams.appendAll("o-1", none),
        "streams.appendAll() needs an object such as { entityType, events: [{ name, data }] }, got null"
      ],
      [
        (it) => it.bulk("cancel", { status: "failed" }, none),
        "bulk() needs an object that may have `signal`, `dryRun`"
      ],
      [(it) => it.erase(none), "erase() needs an object that may have `events`, `runs`"],
      [(it) => it.kv().bucket("a").delete("k", none), "kv.bucket.delete() needs an object that may have `"],
      [(it) => it.projections.get("a", none), "projections.get() needs an object that may have `"]
    ]
    for (const [call, message] of nothing) {
      it(`that is null is refused in the process and over HTTP: ${message}`, async () => {
        const remote = createClient({ serverUrl: engine.url })
        try {
          assert.include(await messageOf(() => call(engine.client)), message)
          assert.include(await messageOf(() => call(remote)), message)
        } finally {
          await remote.close()
        }
      })
    }

    it("is refused with the same message in Effect, and fails a stream", async () => {
      const failure = async (
        effect: Effect.Effect<
          unknown,
          unknown,
          Client.Client | Kv.Kv | Streams.Streams | Subscriptions.Subscriptions
        >
      ) => {
        const exit = await Effect.runPromiseExit(
          Effect.provide(
            effect,
            Client.layerHttp({ serverUrl: engine.url }).pipe(Layer.provide(FetchHttpClient.layer))
          )
        )
        return Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "accepted"
      }

      assert.match(
        await failure(Effect.flatMap(Client.Client, (it) => it.emit("a", {}, wrong({ metdata: {} })))),
        /emit\(\) has no option `metdata`/
      )
      assert.match(
        await failure(
          Effect.flatMap(Kv.Kv, (it) => Stream.runDrain(it.bucket("a").watch(wrong({ fromRevison: 1 }))))
        ),
        /kv\.bucket\.watch\(\) has no option `fromRevison`/
      )
      assert.match(
        await failure(
          Effect.flatMap(Streams.Streams, (it) => Stream.runDrain(it.events("a", wrong({ pagesize: 1 }))))
        ),
        /streams\.events\(\) has no option `pagesize`/
      )
      assert.match(
        await failure(
          Effect.flatMap(Subscriptions.Subscriptions, (it) =>
            Stream.runDrain(it.stream("a", wrong({ includeMetdata: true })))
          )
        ),
        /subscriptions\.stream\(\) has no option `includeMetdata`/
      )
    })

    it("is refused by a subscription", async () => {
      const client = createSubscriptionClient({ engine })
      await client.connect()
      assert.strictEqual(
        await messageOf(() => client.subscribe("a", wrong({ onEvnt: () => undefined }))),
        "subscribe() has no option `onEvnt`: did you mean `onEvent`?"
      )
      client.close()
    })
  })

  describe("of a step", () => {
    const steps: ReadonlyArray<readonly [Parameters<typeof createFunction>[1], string]> = [
      [
        ({ step }) => step.run("charge", () => 1, wrong({ timout: "1s" })),
        'Step "charge" has no option `timout`: did you mean `timeout`?'
      ],
      [
        ({ step }) => step.run("charge", () => 1, wrong({ retry: { jiter: 1 } })),
        'Step "charge": retry has no option `jiter`: did you mean `jitter`?'
      ],
      [
        ({ step }) => step.waitForEvent("paid", wrong({ event: "a", macth: "data.id" })),
        'Step "paid" has no option `macth`: did you mean `match`?'
      ],
      [
        ({ step }) => step.invoke("child", {}, wrong({ timeuot: 1 })),
        'Step "child" has no option `timeuot`: did you mean `timeout`?'
      ],
      [
        ({ step }) => step.parallel("all", [], wrong({ onEror: "failFast" })),
        'Step "all" has no option `onEror`: did you mean `onError`?'
      ],
      [
        ({ step }) => step.map("all", [], () => Promise.resolve(1), wrong({ concurency: 1 })),
        'Step "all" has no option `concurency`: did you mean `concurrency`?'
      ],
      [
        ({ step }) => step.tx("save", (tx) => tx.emit("a", {}, wrong({ verion: 1 }))),
        'emit() of step "save" has no option `verion`: did you mean `version`?'
      ]
    ]
    for (const [code, message] of steps) {
      it(`fails its run at once: ${message}`, async () => {
        const fn = createFunction({ id: "order", triggers }, code)
        const { error, status } = await createTestClient({ functions: [fn] }).emit("order.placed", {})

        assert.strictEqual(status, "failed")
        assert.include(String(error?.message), message)
      })
    }

    it("fails its run at once in Effect", async () => {
      const fn = IronflowFunction.make({ id: "order", triggers }, () =>
        Step.run("charge", Effect.succeed(1), wrong({ sucess: 1 }))
      )
      const { error } = await createTestClient({ functions: [fn] }).emit("order.placed", {})

      assert.include(String(error?.message), 'Step "charge" has no option `sucess`: did you mean `success`?')
    })
  })
})

describe("an unknown option that resembles no other", () => {
  it("causes one warning, and is ignored", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined)
    try {
      for (let i = 0; i < 2; i++) createFunction(wrong({ ...ok, colour: "red", id: "painted" }), handler)

      assert.deepStrictEqual(warn.mock.calls, [
        ['[ironflow] Function "painted" has no option `colour`. It is ignored']
      ])
    } finally {
      warn.mockRestore()
    }
  })

  it("is reported to the logger of the options, and to none when that is false", () => {
    const lines: Array<string> = []
    const warn = (line: string): void => void lines.push(line)
    const logger = { debug: warn, info: warn, warn, error: warn }
    createWorker(wrong({ functions: [], logger, hat: "red" }))
    createWorker(wrong({ functions: [], logger: false, cap: "red" }))

    assert.deepStrictEqual(lines, ["Worker has no option `hat`. It is ignored"])
  })

  it("without a value causes no warning", () => {
    createFunction(wrong({ ...ok, retri: undefined }), handler)
  })

  it("that shares no letter with a short option is not its misspelling", () => {
    const lines: Array<string> = []
    const warn = (line: string): void => void lines.push(line)
    checkKeys({ ab: 1 }, { id: true }, "short", { debug: warn, info: warn, warn, error: warn })

    assert.deepStrictEqual(lines, ["short has no option `ab`. It is ignored"])
  })
})

describe("an option of later versions", () => {
  it("is never refused, but causes a warning", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined)
    try {
      createFunction(
        wrong({ ...ok, id: "later", debounce: { periodMs: 1000 }, cancelOn: [], timeoutMs: 5 }),
        handler
      )
      createClient(wrong({ onError: () => undefined }))

      assert.deepStrictEqual(
        warn.mock.calls.map(([line]) => line),
        [
          '[ironflow] Function "later" has no option `debounce`. It is ignored',
          '[ironflow] Function "later" has no option `cancelOn`. It is ignored',
          '[ironflow] Function "later" has no option `timeoutMs`: did you mean `timeout`? It is ignored',
          "[ironflow] createClient() has no option `onError`. It is ignored"
        ]
      )
    } finally {
      warn.mockRestore()
    }
  })
})

describe("the server", () => {
  it("accepts functions with unknown keys", async () => {
    const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    try {
      const response = await fetch(`${engine.url}/ironflow.v1.IronflowService/RegisterFunction`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          id: "order",
          triggers: [{ event: "a", evnet: "b" }],
          retri: {},
          retry: { maxAttemps: 1 }
        })
      })

      assert.strictEqual(response.status, 200, await response.text())
    } finally {
      await engine.close()
    }
  })
})
