import { assert, describe, it } from "@effect/vitest"
import {
  type Duration,
  formatDuration,
  formatExactDuration,
  parseDuration,
  positiveDuration
} from "../src/Duration.ts"
import { ValidationError } from "../src/Errors.ts"
import { show } from "../src/Show.ts"

describe("parseDuration", () => {
  it.each<readonly [Duration, number]>([
    [0, 0],
    [1500, 1500],
    [-5, -5],
    [1.5, 1.5],
    ["500ms", 500],
    ["0s", 0],
    ["1.5s", 1500],
    ["1.001s", 1001],
    ["0.0005s", 0],
    ["30s", 30_000],
    ["5m", 300_000],
    ["2h", 7_200_000],
    ["7d", 604_800_000],
    ["007s", 7000]
  ])("reads %o as %d ms", (duration, ms) => {
    assert.strictEqual(parseDuration(duration), ms)
  })

  it.each([
    "",
    " ",
    "10",
    "10x",
    "1h30m",
    "-1s",
    "+1s",
    "1 s",
    " 1s",
    "1s\n",
    "1S",
    "1M",
    "s",
    ".5s",
    "1.s",
    "1e3s",
    "NaNs",
    `${"9".repeat(400)}d`
  ])("refuses %o with an error that names it and the grammar", (duration) => {
    assert.throws(() => parseDuration(duration), ValidationError)
    assert.throws(() => parseDuration(duration), `Invalid duration ${show(duration)}: write `)
  })

  it.each(["3600000", "10", "soon", "1 s", "0", "9".repeat(400)])(
    "suggests values for %j that are valid",
    (duration) => {
      let message = ""
      try {
        positiveDuration(duration, "delay")
      } catch (error) {
        message = String(error)
      }
      const [, said = ""] = /; (write .*)$/.exec(message) ?? []
      const pasted = [...said.matchAll(/"([^"]+)"/g)].map(([, text = ""]) => text)
      assert.isNotEmpty(pasted)
      for (const text of pasted) assert.isAbove(positiveDuration(text, "delay"), 0)
      assert.notInclude(said, "as a number")
    }
  )

  it.each([null, undefined, {}, true])("refuses %o", (duration) => {
    assert.throws(() => parseDuration(duration as unknown as Duration), ValidationError)
  })
})

describe("positiveDuration", () => {
  it.each<readonly [Duration, number]>([
    [1, 1],
    [0.5, 0.5],
    ["48h", 172_800_000]
  ])("reads %o as %d ms", (duration, ms) => {
    assert.strictEqual(positiveDuration(duration, "timeout"), ms)
  })

  it.each<readonly [Duration, string]>([
    [0, "0 is not a positive, finite duration"],
    [-1, "-1 is not a positive"],
    [Number.NaN, "NaN is not a positive"],
    [Number.POSITIVE_INFINITY, "Infinity is not a positive"],
    ["0s", '"0s" is not a positive'],
    ["0.1ms", '"0.1ms" is not a positive'],
    ["soon", '"soon" is not a duration']
  ])("refuses %o with an error that names its purpose", (duration, message) => {
    assert.throws(
      () => positiveDuration(duration, 'timeout of step "charge"'),
      `Invalid timeout of step "charge": ${message}`
    )
  })
})

describe("formatDuration", () => {
  it.each<readonly [number, string]>([
    [5_400_000, "1h"],
    [90_000, "1m"],
    [1500, "1s"],
    [500, "500ms"],
    [0, "0ms"],
    [999.9, "999ms"],
    [604_800_000, "7d"],
    [86_399_999, "23h"]
  ])("shows %d ms as %s, its largest whole unit", (ms, text) => {
    assert.strictEqual(formatDuration(ms), text)
  })
})

describe("formatExactDuration", () => {
  it.each<readonly [number, string]>([
    [5_400_000, "90m"],
    [90_000, "90s"],
    [1500, "1500ms"],
    [0, "0ms"],
    [999.6, "1000ms"],
    [604_800_000, "7d"],
    [172_800_001, "172800001ms"]
  ])("shows %d ms as %s, in the largest unit that is exact", (ms, text) => {
    assert.strictEqual(formatExactDuration(ms), text)
  })
})
