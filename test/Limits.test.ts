import { assert, describe, it } from "@effect/vitest"
import { LimitExceededError, ValidationError } from "../src/Errors.ts"
import { checkName, checkSize } from "../src/Limits.ts"

describe("checkName", () => {
  it.each(["a", "charge card", "größe", "x".repeat(256), "a:b\\c", "__proto__"])("accepts %o", (name) => {
    assert.strictEqual(checkName("step name", name), name)
  })

  it.each<readonly [unknown, RegExp]>([
    [undefined, /The step name must be a string, got undefined/],
    [null, /got null/],
    [7, /got 7$/],
    ["", /must not be empty or blank/],
    [" \t", /must not be empty or blank/],
    ["a\nb", /must not contain control characters/],
    ["x".repeat(257), /is too large: 257 characters, and the limit is 256 characters/]
  ])("refuses %o", (name, message) => {
    assert.throws(() => checkName("step name", name), ValidationError)
    assert.throws(() => checkName("step name", name), message)
  })
})

describe("checkSize", () => {
  it.each<readonly [text: string | undefined, limit: number]>([
    [undefined, 0],
    ["", 0],
    ["abc", 3],
    ["€", 3],
    ["€€", 6]
  ])("accepts %o at a limit of %d bytes", (text, limit) => {
    assert.strictEqual(checkSize("Value", text, limit), text)
  })

  it.each<readonly [text: string, limit: number, size: number]>([
    ["abcd", 3, 4],
    ["€€", 5, 6]
  ])("refuses %o at a limit of %d bytes", (text, limit, size) => {
    assert.throws(() => checkSize("Value", text, limit), LimitExceededError)
    assert.throws(
      () => checkSize("Value", text, limit),
      `Value is too large: ${size} bytes, and the limit is ${limit} bytes`
    )
  })
})
