import { assert, describe, it } from "@effect/vitest"
import { ValidationError } from "../src/Errors.ts"
import { defineEvent } from "../src/Event.ts"
import { createEventDefinitionRegistry, createUpcasterRegistry } from "../src/Upcaster.ts"

type Data = Record<string, unknown>
const adding = (key: string) => (data: unknown) => ({ ...(data as Data), [key]: true })

describe("createUpcasterRegistry", () => {
  const registry = createUpcasterRegistry()
  registry.register("order.placed", 1, 2, adding("v2"))
  registry.register("order.placed", 2, 4, adding("v4"))
  registry.register("order.placed", 5, 6, adding("v6"))

  it.each<readonly [from: number, to: number, expected: Data]>([
    [1, 1, {}],
    [3, 2, {}],
    [1, 2, { v2: true }],
    [1, 4, { v2: true, v4: true }],
    [2, 4, { v4: true }],
    [5, 6, { v6: true }]
  ])("brings data from v%d to v%d", (from, to, expected) => {
    assert.deepStrictEqual(registry.upcast("order.placed", {}, from, to), expected)
  })

  it.each<readonly [event: string, from: number, to: number, at: string]>([
    ["order.placed", 1, 6, "v4"],
    ["order.placed", 1, 3, "v2"],
    ["order.placed", 3, 4, "v3"],
    ["order.cancelled", 1, 2, "v1"]
  ])(
    "refuses %s from v%d to v%d with an error that says where the chain is broken",
    (event, from, to, at) => {
      assert.throws(
        () => registry.upcast(event, {}, from, to),
        new RegExp(`^Incomplete upcaster chain for event "${event}".*an upcaster from ${at} is needed,`)
      )
    }
  )

  it("says that the registered upcaster goes beyond the version that is asked for", () => {
    const leaping = createUpcasterRegistry()
    leaping.register("order.placed", 1, 3, adding("v3"))

    assert.throws(
      () => leaping.upcast("order.placed", {}, 1, 2),
      /an upcaster from v1 is needed, and the registered one converts to v3, which is too far\. Register one from v1 to v2 in its place$/
    )
  })

  it("lets a later entry replace an earlier one", () => {
    const replaced = createUpcasterRegistry()
    replaced.register("order.placed", 1, 2, adding("first"))
    replaced.register("order.placed", 1, 2, adding("second"))

    assert.deepStrictEqual(replaced.upcast("order.placed", {}, 1, 2), { second: true })
  })

  it("passes on errors of an upcaster, and null", () => {
    const failure = new Error("bad data")
    const failing = createUpcasterRegistry()
    failing.register("a", 1, 2, () => {
      throw failure
    })
    failing.register("b", 1, 2, () => null)

    assert.throws(() => failing.upcast("a", {}, 1, 2), failure)
    assert.isNull(failing.upcast("b", {}, 1, 2))
  })

  it("knows the latest version of an event", () => {
    assert.strictEqual(registry.getLatestVersion("order.placed"), 6)
    assert.isUndefined(registry.getLatestVersion("order.cancelled"))
  })

  it.each<readonly [number, number]>([
    [2, 1],
    [1, 1],
    [0, 1],
    [1, 2.5]
  ])("refuses an upcaster from v%d to v%d", (from, to) => {
    assert.throws(() => registry.register("x", from, to, adding("y")), ValidationError)
  })
})

describe("createEventDefinitionRegistry", () => {
  const registry = createEventDefinitionRegistry()
  registry.register(defineEvent({ name: "order.placed", version: 3, upcast: adding("v3") }))
  registry.register(defineEvent({ name: "order.placed", version: 1, upcast: adding("ignored") }))
  registry.register(defineEvent({ name: "order.placed", version: 2, upcast: adding("v2") }))
  registry.register(defineEvent({ name: "order.shipped", version: 2 }))

  it.each<readonly [event: string, from: number, expected: Data]>([
    ["order.placed", 1, { v2: true, v3: true }],
    ["order.placed", 2, { v3: true }],
    ["order.placed", 3, {}],
    ["order.placed", 9, {}],
    ["order.unknown", 1, {}]
  ])("brings %s from v%d to the latest version", (event, from, expected) => {
    assert.deepStrictEqual(registry.upcastEvent(event, {}, from), expected)
  })

  it("refuses to skip a version that has no upcaster", () => {
    assert.throws(() => registry.upcastEvent("order.shipped", {}, 1), /^Incomplete upcaster chain/)
  })

  it("knows the highest version registered", () => {
    assert.strictEqual(registry.getLatestVersion("order.placed"), 3)
    assert.isUndefined(registry.getLatestVersion("order.unknown"))
  })

  it("refuses an invalid definition", () => {
    assert.throws(() => registry.register({ name: "order.*", version: 1 }), ValidationError)
  })
})
