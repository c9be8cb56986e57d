import { assert, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { afterAll, describe } from "vitest"
import * as KvRows from "../../../src/Engine/Kv/KvRows.ts"
import { Store } from "../../../src/Engine/Store/Store.ts"
import { BucketNotFoundError, VersionConflictError } from "../../../src/Errors.ts"
import { isLong } from "../../Long.ts"
import { changeDetector, fromPlain, toPlain } from "./Plain.ts"
import { storeSuite } from "./suite.ts"
import { layerThread, stopThread } from "./Thread.ts"
import { engineScenarios } from "./ThreadEngine.ts"

afterAll(stopThread)

storeSuite("a SQLite file in a thread", layerThread, isLong)

describe("an engine over a store in a thread", () => engineScenarios(layerThread))

describe("a store in a thread", () => {
  it.effect("fails with the error of the program, whose class and fields are kept", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const error = yield* Effect.flip(store.read(KvRows.readEntry("default", "carts", "anna")))
      assert.instanceOf(error, BucketNotFoundError)
      assert.strictEqual(error.bucket, "carts")
    }).pipe(Effect.provide(layerThread))
  )

  it.effect("runs only named programs, with arguments that can be cloned", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const call = KvRows.readEntry("default", "carts", "anna")
      const faultOf = (changed: object) =>
        Effect.map(Effect.exit(store.read({ ...call, ...changed })), (exit) =>
          Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "none"
        )
      assert.include(yield* faultOf({ name: "readCart" }), 'There is no program named "readCart"')
      assert.include(
        yield* faultOf({ args: ["default", "carts", { accepts: () => true }] }),
        'Argument 3 of "readEntry".accepts is a function, and no other thread can have it'
      )
    }).pipe(Effect.provide(layerThread))
  )
})

describe("plain data", () => {
  it("comes back unchanged, and errors of this package keep their classes", () => {
    const value = {
      name: "carts",
      none: undefined,
      bytes: new Uint8Array([1, 2]),
      limits: new Map([["charge", 60_000]]),
      ids: new Set(["a"]),
      results: [1, new VersionConflictError("cart-1", 2, 3)]
    }
    const back = fromPlain(structuredClone(toPlain("It", value))) as typeof value
    assert.deepStrictEqual(back, value)
    assert.instanceOf(back.results[1], VersionConflictError)
  })

  it("may not contain functions or instances of classes", () => {
    assert.throws(() => toPlain("It", { a: [{ b: () => 1 }] }), "It.a[0].b is a function")
    assert.throws(() => toPlain("It", new Map([["a", Symbol("b")]])), "It at a is a symbol")
    assert.throws(() => toPlain("It", [new Date(0)]), "It[0] is a Date, and not plain")
    assert.throws(
      () => toPlain("It", { error: new RangeError("no") }),
      "It.error is a RangeError, and not plain"
    )
  })

  it("is compared with its earlier content to detect a change", () => {
    const value = { ids: ["a"], at: 1 }
    const isChanged = changeDetector("It", value)
    assert.isFalse(isChanged())
    value.ids.push("b")
    assert.isTrue(isChanged())
  })

  it("cannot be changed by its receiver", () => {
    const sent = { ids: ["a"], limits: new Map([["a", { of: 1 }]]) }
    const value = fromPlain(toPlain("It", sent)) as typeof sent
    assert.throws(() => value.ids.push("b"), TypeError)
    assert.throws(() => value.limits.set("b", { of: 2 }), TypeError)
    assert.throws(() => {
      value.limits.get("a")!.of = 2
    }, TypeError)
  })
})
