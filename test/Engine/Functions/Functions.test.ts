/** When a writer gets its answer, the engine's memory of functions equals the stored rows. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Operations from "../../../src/Engine/Access/LoggedOperations.ts"
import { FunctionNotFoundError } from "../../../src/Errors.ts"
import * as FunctionRows from "../../../src/Engine/Functions/FunctionRows.ts"
import * as Functions from "../../../src/Engine/Functions/Functions.ts"
import * as SqliteStore from "../../../src/Engine/SqliteStore.ts"
import * as SystemEvents from "../../../src/Engine/SystemEvents/SystemEvents.ts"
import { Store, type StoreService } from "../../../src/Engine/Store/Store.ts"
import { functionsOfEnvironment } from "../../../src/Limits.ts"
import { handles } from "../Store/suite/Shop.ts"

const pushed = handles("charge", { mode: "push", endpointUrl: "http://localhost:1/charge" })

const layer = Functions.layer.pipe(Layer.provide(SystemEvents.layer))

const test = (
  title: string,
  body: (functions: Functions.FunctionsService, store: StoreService) => Effect.Effect<void, unknown>
) =>
  it.effect(title, () =>
    Effect.gen(function* () {
      yield* body(yield* Functions.Functions, yield* Store)
    }).pipe(Effect.provide(layer.pipe(Layer.provideMerge(SqliteStore.layer({ filename: ":memory:" })))))
  )

const idsOf = (functions: Functions.FunctionsService, environment = "default") =>
  Effect.map(functions.list(environment), (infos) => infos.map(({ id }) => id))

test("a function is listed from the answer to its registration until the answer to its deletion", (functions, store) =>
  Effect.gen(function* () {
    assert.isUndefined(functions.find("default", "charge"))
    yield* store.write(FunctionRows.registerFunctions("default", [pushed, handles("ship")]))
    assert.deepStrictEqual(functions.find("default", "charge"), pushed)
    assert.isUndefined(functions.find("staging", "charge"))
    assert.strictEqual(functions.count("default"), 2)
    assert.deepStrictEqual(yield* idsOf(functions), ["charge", "ship"])
    assert.deepStrictEqual(functions.pushed(), [{ environment: "default", registration: pushed }])
    assert.strictEqual((yield* functions.get("default", "ship"))?.version, 1)

    const slower = handles("ship", { timeoutMs: 90_000 })
    yield* store.write(FunctionRows.registerFunctions("default", [slower]))
    assert.deepStrictEqual(functions.find("default", "ship"), slower)
    assert.strictEqual((yield* functions.get("default", "ship"))?.version, 2)

    yield* store.write(FunctionRows.deleteFunction("default", "charge"))
    assert.strictEqual(functions.count("default"), 1)
    assert.deepStrictEqual(yield* idsOf(functions), ["ship"])
    assert.deepStrictEqual(functions.pushed(), [])
    assert.isUndefined(yield* functions.get("default", "charge"))
    // its runs continue, so it can still be found
    assert.deepStrictEqual(functions.find("default", "charge"), pushed)

    yield* store.write(FunctionRows.registerFunctions("default", [pushed]))
    assert.deepStrictEqual(yield* idsOf(functions), ["charge", "ship"])
  }))

test("the registration by the program that was started last counts", (functions, store) =>
  Effect.gen(function* () {
    const later = handles("ship", { timeoutMs: 90_000 })
    yield* store.write(FunctionRows.registerFunctions("default", [later], 2))
    yield* store.write(FunctionRows.registerFunctions("default", [handles("ship")], 1))

    assert.deepStrictEqual(functions.find("default", "ship"), later)
  }))

test("an engine that is started later knows the earlier functions", (first, store) =>
  Effect.gen(function* () {
    yield* store.write(FunctionRows.registerFunctions("default", [pushed, handles("ship")]))
    yield* store.write(FunctionRows.registerFunctions("staging", [handles("ship")]))
    yield* store.write(FunctionRows.deleteFunction("default", "ship"))

    const second = yield* Effect.scoped(
      Effect.provide(Functions.Functions, layer.pipe(Layer.provide(Layer.succeed(Store, store))))
    )

    for (const environment of ["default", "staging", "nowhere"]) {
      assert.strictEqual(second.count(environment), first.count(environment))
      assert.deepStrictEqual(yield* idsOf(second, environment), yield* idsOf(first, environment))
      assert.deepStrictEqual(second.find(environment, "ship"), first.find(environment, "ship"))
    }
    assert.deepStrictEqual(second.pushed(), first.pushed())
  }))

test("pausing a function that is deleted in the same moment fails", (_, store) =>
  Effect.gen(function* () {
    yield* store.write(FunctionRows.registerFunctions("default", [handles("ship")]))
    const deleting = Effect.orDie(store.write(FunctionRows.deleteFunction("default", "ship")))
    const racing: StoreService = { ...store, read: (call) => Effect.andThen(deleting, store.read(call)) }
    const { in: operationsIn } = yield* Effect.scoped(
      Effect.provide(
        Operations.LoggedOperations,
        Operations.layer.pipe(Layer.provide(Layer.succeed(Store, racing)))
      )
    )

    const error = yield* Effect.flip(operationsIn("default").pauseFunction("ship"))

    assert.instanceOf(error, FunctionNotFoundError)
  }))

test("the number of functions is limited, and existing ones can be registered again", (functions, store) =>
  Effect.gen(function* () {
    const all = Array.from({ length: functionsOfEnvironment }, (_, i) => handles(`f-${i}`))
    functions.checkRoom("default", all)
    yield* store.write(FunctionRows.registerFunctions("default", all))

    functions.checkRoom("default", all.slice(0, 1))
    functions.checkRoom("staging", [handles("one-more")])
    assert.throws(
      () => functions.checkRoom("default", [handles("one-more")]),
      'The list of functions of environment "default"'
    )

    yield* store.write(FunctionRows.deleteFunction("default", "f-0"))
    functions.checkRoom("default", [handles("one-more")])
  }))

test("an environment counts towards their limit once the first call that named it is answered", (functions, store) =>
  Effect.gen(function* () {
    for (let i = 0; ; i++) {
      try {
        functions.checkEnvironment(`shop-${i}`)
      } catch (error) {
        assert.include(String(error), `The number of environments, with the new one "shop-${i}",`)
        functions.checkEnvironment(`shop-${i - 1}`)
        return
      }
      yield* store.write(FunctionRows.registerFunctions(`shop-${i}`, []))
    }
  }))

test("the schema of event data is shown for one function, and not in lists", (functions, store) =>
  Effect.gen(function* () {
    const triggers = [{ event: "order.placed", schema: { type: "object" }, version: 2 }]
    yield* store.write(FunctionRows.registerFunctions("default", [handles("ship", { triggers })]))

    assert.deepStrictEqual((yield* functions.get("default", "ship"))?.triggers, triggers)
    assert.deepStrictEqual((yield* functions.list("default"))[0]?.triggers, [{ event: "order.placed" }])
  }))
