/** The registration in force when the worker that decided about it has left, and others live on. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { Client } from "../../src/Client/Client.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import { registrationHash } from "../../src/Engine/Functions/FunctionRows.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { type LiveRegistration, restorableOf } from "../../src/Engine/Workers/LiveRegistrations.ts"
import type { FunctionRegistration } from "../../src/Protocol/Worker.ts"
import { untilQuiet } from "./Quiet.ts"
import { handles } from "./Store/suite/Shop.ts"

const layer = Engine.layerClientIn("default").pipe(
  Layer.provideMerge(Engine.layer),
  Layer.provide(SqliteStore.layer({ filename: ":memory:" }))
)

const version = (codeHash: string, more: Partial<FunctionRegistration> = {}) =>
  handles("ship", { codeHash, on: [`placed.${codeHash}`], ...more })

/** Connects a worker. Its program started at `startedAt`. */
const connect = (workerId: string, fn: FunctionRegistration, startedAt: number) =>
  Effect.gen(function* () {
    const { workers } = yield* Engine.Engine
    return yield* workers.connectRemote(
      {
        workerId,
        environment: "default",
        hostname: "here",
        functions: [fn],
        maxConcurrentJobs: 1,
        labels: {},
        version: { sdk: "test", runtime: "test" },
        startedAt
      },
      { onJob: () => undefined, onNotice: () => undefined },
      { leaseMs: 30_000, transport: "polling" }
    )
  })

/** Lets time pass. Then the versions of the function that were registered, newest first. */
const versionsAfter = (ms: number) =>
  Effect.gen(function* () {
    yield* TestClock.adjust(ms)
    yield* Effect.promise(async () => {
      await untilQuiet()
    })
    const history = yield* (yield* Client).functionHistory("ship")
    return history.map(({ codeVersion }) => codeVersion).join()
  })

const test = (title: string, body: Effect.Effect<void, unknown, Engine.Engine | Client>) =>
  it.effect(title, () => Effect.provide(body, layer))

test(
  "an old worker that has restarted and leaves gives way to the newer version of a live worker at once",
  Effect.gen(function* () {
    const first = yield* connect("a", version("1"), 1)
    yield* connect("b", version("2"), 2)
    yield* first.close(false)
    const again = yield* connect("a", version("1"), 3)
    assert.strictEqual(yield* versionsAfter(0), "1,2,1")

    yield* again.close(true)

    assert.strictEqual(yield* versionsAfter(0), "2,1,2,1")
    const { runIds } = yield* (yield* Client).emit("placed.2", {})
    assert.lengthOf(runIds, 1)
    // a program that starts now decides, as ever
    yield* connect("c", version("1"), 4)
    assert.strictEqual(yield* versionsAfter(0), "1,2,1,2,1")
  })
)

test(
  "the old version holds again only if the new one stays away, and gives way when that comes back",
  Effect.gen(function* () {
    yield* connect("a", version("1"), 1)
    const newer = yield* connect("b", version("2"), 2)
    yield* newer.close(true)
    assert.strictEqual(yield* versionsAfter(59_000), "2,1")
    const again = yield* connect("b", version("2"), 2)
    assert.strictEqual(yield* versionsAfter(3600_000), "2,1")

    yield* again.close(false)

    assert.strictEqual(yield* versionsAfter(59_000), "2,1")
    assert.strictEqual(yield* versionsAfter(1000), "1,2,1")
    yield* connect("b", version("2"), 2)
    assert.strictEqual(yield* versionsAfter(0), "2,1,2,1")
  })
)

test(
  "the worker that started last decides, and a registration that differs only in its triggers counts",
  Effect.gen(function* () {
    const moved = (cron: string) => version("1", { triggers: [{ cron }] })
    yield* connect("b", moved("0 8 * * *"), 2)
    yield* connect("a", moved("0 7 * * *"), 1)
    const last = yield* connect("c", moved("0 9 * * *"), 3)
    yield* last.close(false)
    assert.strictEqual(yield* versionsAfter(60_000), "1,1,1")
    const [ship] = yield* (yield* Client).listFunctions()
    assert.deepStrictEqual(ship?.triggers, [{ cron: "0 8 * * *" }])
  })
)

test(
  "an engine that restarts finds the registration of a worker that left meanwhile",
  Effect.gen(function* () {
    const { functions } = yield* Engine.Engine
    yield* functions.put("default", [version("2")], 2)
    yield* functions.put("default", [version("1")], 3)

    yield* connect("b", version("2"), 2)

    assert.strictEqual(yield* versionsAfter(59_000), "1,2")
    assert.strictEqual(yield* versionsAfter(1000), "2,1,2")
  })
)

test(
  "a worker that is kept out and connects again and again does not postpone the check",
  Effect.gen(function* () {
    const { functions } = yield* Engine.Engine
    yield* functions.put("default", [version("1")], 1)
    yield* functions.put("default", [version("2")], 3)
    for (let i = 0; i < 5; i++) {
      const connection = yield* connect("a", version("1"), 1)
      assert.strictEqual(yield* versionsAfter(11_000), "2,1")
      yield* connection.close(false)
    }
    yield* connect("a", version("1"), 1)

    assert.strictEqual(yield* versionsAfter(6000), "1,2,1")
  })
)

test(
  "an old worker that restarts again and again does not make its version the newer one",
  Effect.gen(function* () {
    yield* (yield* connect("a", version("1"), 1)).close(false)
    yield* connect("b", version("2"), 2)
    for (let i = 0; i < 60; i++) yield* (yield* connect("a", version("1"), 3 + i)).close(false)

    assert.match(yield* versionsAfter(0), /^2,1,2,1,.*,2,1$/)
  })
)

test(
  "of a function that pins its runs, the new version holds again, and an old one does not",
  Effect.gen(function* () {
    const pinning = { versioning: "pin" } as const
    yield* connect("a", version("1", pinning), 1)
    const newer = yield* connect("b", version("2", pinning), 2)
    yield* newer.close(false)
    assert.strictEqual(yield* versionsAfter(3600_000), "2,1")
    const old = yield* connect("c", version("1", pinning), 3)
    assert.strictEqual(yield* versionsAfter(0), "1,2,1")
    yield* connect("b", version("2", pinning), 2)
    const { workers } = yield* Engine.Engine
    assert.lengthOf(yield* workers.list("default"), 3)
    assert.strictEqual(yield* versionsAfter(0), "1,2,1")
    yield* old.close(false)
    // worker a still has version 1
    assert.strictEqual(yield* versionsAfter(3600_000), "1,2,1")
  })
)

test(
  "a function that is paused stays paused when another registration holds again",
  Effect.gen(function* () {
    const client = yield* Client
    yield* connect("b", version("2"), 2)
    const old = yield* connect("a", version("1"), 3)
    yield* client.pauseFunction("ship", { reason: "the bank is down" })
    yield* old.close(false)
    const [ship] = yield* client.listFunctions()
    assert.deepInclude(ship, { codeVersion: "1" })
    assert.strictEqual(ship?.paused?.reason, "the bank is down")
    assert.strictEqual(yield* versionsAfter(60_000), "2,1,2")
    assert.strictEqual((yield* client.listFunctions())[0]?.paused?.reason, "the bank is down")
  })
)

const known = (fn: FunctionRegistration, startedAt: number): LiveRegistration => ({
  codeVersion: fn.codeHash,
  startedAt,
  registration: fn
})
const elsewhere = (fn: FunctionRegistration, startedAt: number): LiveRegistration => ({
  ...known(fn, startedAt),
  registration: registrationHash(fn)
})

const [one, two, three] = [version("1"), version("2"), version("3")]

it.each([
  ["no live worker", [], undefined],
  ["a worker that has the one in force", [known(three, 3), known(two, 2)], undefined],
  ["a worker of another engine that has it", [known(two, 2), elsewhere(three, 3)], undefined],
  ["a worker of an earlier engine with its version", [known(two, 2), { codeVersion: "3" }], undefined],
  ["a worker of an earlier engine with another version", [known(two, 2), { codeVersion: "1" }], "2"],
  ["two own workers", [known(one, 1), known(two, 2)], "2"],
  ["two own workers, the other way round", [known(two, 1), known(one, 2)], "1"],
  ["a worker of another engine that started later", [known(one, 1), elsewhere(two, 2)], "2"],
  ["a worker of another engine that started earlier", [known(two, 2), elsewhere(one, 1)], "2"],
  [
    "a worker of the same code with other triggers",
    [known(version("3", { triggers: [{ event: "paid" }] }), 2)],
    "3"
  ]
] as const)("what may hold again with %s", (_, live, expected) => {
  const restorable = restorableOf(three, live)
  assert.deepInclude(restorable ?? { inForce: registrationHash(three) }, { inForce: registrationHash(three) })
  const registration = restorable?.registration
  assert.strictEqual(
    typeof registration === "string"
      ? [one, two].find((fn) => registrationHash(fn) === registration)?.codeHash
      : registration?.codeHash,
    expected
  )
})
