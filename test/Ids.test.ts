import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { createRunId, generateId, type IdGenerator, makeIdGenerator, type RunId } from "../src/Ids.ts"

const kinds: ReadonlyArray<readonly [keyof IdGenerator, string]> = [
  ["run", "run_"],
  ["event", "evt_"],
  ["message", "msg_"],
  ["job", "job_"],
  ["subscription", "sub_"],
  ["worker", "worker-"]
]

const zero = () => 0

describe("makeIdGenerator", () => {
  it.each(kinds)("makes %s ids that begin with %s", (kind, prefix) => {
    const ids = makeIdGenerator(
      () => 1_767_225_600_000,
      (below) => below - 1
    )

    const id = ids[kind]()

    assert.isTrue(id.startsWith(prefix))
    assert.match(id.slice(prefix.length), /^[0-9a-z]{25}$/)
  })

  it.each<readonly [what: string, times: ReadonlyArray<number>]>([
    ["advances", [1, 2, 1000, 1_767_225_600_000, 1_767_225_600_001, 2 ** 44]],
    ["stands still", [5, 5, 5, 5]],
    ["goes back", [1000, 999, 10, 1001, 500]],
    ["has fractions", [10.9, 10.1, 11.5]]
  ])("makes ids in order while the clock %s", (_what, times) => {
    let i = 0
    const ids = makeIdGenerator(() => times[i++ % times.length] ?? 0, zero)

    const made = times.map(() => ids.run())

    assert.deepStrictEqual(made.toSorted(), made)
    assert.strictEqual(new Set(made).size, made.length)
  })

  it.each([1000, 5000, 6000])("continues after the ids of another generator, at %i", (now) => {
    const before = makeIdGenerator(
      () => 5000,
      (below) => below - 1
    ).event()

    const ids = makeIdGenerator(() => now, zero, before)

    const made = [before, ids.event(), ids.event()]
    assert.deepStrictEqual(made.toSorted(), made)
  })

  it("keeps the order when a millisecond has more ids than the counter has values", () => {
    const ids = makeIdGenerator(() => 1, zero)

    let last = ""
    for (let i = 0; i < 1_100_000; i++) {
      const id = ids.event()
      if (id <= last) assert.fail(`${id} does not come after ${last}`)
      last = id
    }
  })

  it("makes different random ids with several generators in the same millisecond", () => {
    const ones = makeIdGenerator(() => 1, zero)
    const others = makeIdGenerator(
      () => 1,
      () => 1
    )

    assert.notStrictEqual(ones.run(), others.run())
  })
})

describe("branded ids", () => {
  it("are the strings from which they are made", () => {
    assert.strictEqual(createRunId("run_1"), "run_1")
    expectTypeOf(createRunId("run_1")).toEqualTypeOf<RunId>()
    expectTypeOf<string>().not.toExtend<RunId>()
  })
})

describe("generateId", () => {
  it("returns a time and a random number in base 36, different each time", () => {
    const ids = Array.from({ length: 1000 }, generateId)

    for (const id of ids) assert.match(id, /^[0-9a-z]{8,9}-[0-9a-z]{1,6}$/)
    assert.isAbove(new Set(ids).size, 990)
  })
})
