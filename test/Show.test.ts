import fs from "node:fs"
import path from "node:path"
import { assert, describe, it } from "vitest"
import { show, showMs } from "../src/Show.ts"

const nested = (levels: number): unknown => {
  let value: unknown = []
  for (let i = 1; i < levels; i++) value = [value]
  return value
}

describe("show", () => {
  it.each(
    (
      [
        ["text", '"text"'],
        ['a "b"', '"a \\"b\\""'],
        [7, "7"],
        [Number.NaN, "NaN"],
        [undefined, "undefined"],
        [null, "null"],
        [true, "true"],
        [7n, "7n"],
        [Symbol("s"), "Symbol(s)"],
        [() => 1, "a function"],
        [[1, "a"], '[1,"a"]'],
        [{ a: { b: { c: { d: 1 } } } }, '{"a":{"b":{"c":{...}}}}'],
        [{ toString: 1 }, '{"toString":1}'],
        [{ toJSON: () => "no" }, '{"toJSON":a function}'],
        [Object.create(null), "{}"],
        [new Date(0), "1970-01-01T00:00:00.000Z"],
        [new Date(Number.NaN), "Invalid Date"]
      ] as ReadonlyArray<readonly [unknown, string]>
    ).map(([value, text]) => ({ value, text }))
  )("shows $text", ({ text, value }) => {
    assert.strictEqual(show(value), text)
  })

  it("is short, however large or deep a value is", () => {
    for (const value of [
      "x".repeat(1e6),
      nested(10_000),
      Array.from({ length: 1e6 }, () => "x"),
      { ["k".repeat(1e6)]: 1 },
      { a: "x".repeat(1e6), b: "y".repeat(1e6) }
    ]) {
      assert.isBelow(show(value).length, 150)
    }
    assert.strictEqual(show("x".repeat(100), 4), '"xxxx..."')
  })

  it("never fails", () => {
    const cycle: Record<string, unknown> = {}
    cycle.cycle = cycle
    const traps = {
      get bad(): never {
        throw new Error("no")
      }
    }
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()

    assert.strictEqual(show(cycle), '{"cycle":{"cycle":{"cycle":{...}}}}')
    assert.strictEqual(show(traps), "a value that cannot be shown")
    assert.strictEqual(show(proxy), "a value that cannot be shown")
  })
})

describe("showMs", () => {
  it.each([
    [5000 / 3, "1667ms"],
    [300, "300ms"],
    [0, "0ms"],
    [0.5, "0.5ms"],
    [1 / 3, "0.33ms"],
    [90_000.4, "90000ms"]
  ])("of %d is %s", (ms, text) => {
    assert.strictEqual(showMs(ms), text)
  })

  it("is used for milliseconds in every message of the source", () => {
    const root = path.join(import.meta.dirname, "../src")
    const others = fs
      .readdirSync(root, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts") && !["Show.ts", "Duration.ts"].includes(file))
      .flatMap((file) =>
        [
          ...fs.readFileSync(path.join(root, file), "utf8").matchAll(/\$\{[^}]*\} ?(?:ms|milliseconds)\b/g)
        ].map(([found]) => `${file}: ${found}`)
      )

    assert.deepStrictEqual(others, [])
  })
})
