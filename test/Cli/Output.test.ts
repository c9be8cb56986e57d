import { assert, describe, it } from "vitest"
import { NonRetryableError } from "../../src/Errors.ts"
import { durationBetween, durationText, fields, oneLine, jsonLine, table } from "../../src/Cli/Output.ts"

describe("oneLine", () => {
  it.for([
    ["plain", 10, "plain"],
    ["two\nlines\r\n", 20, "two lines"],
    ["\u001b[31mred\u0007", 20, "[31mred"],
    ["0123456789", 5, "0123…"]
  ] as const)("makes %j safe for a terminal, at most %d long", ([text, max, expected]) => {
    assert.strictEqual(oneLine(text, max), expected)
  })
})

describe("jsonLine", () => {
  it.for([
    [undefined, ""],
    [null, "null"],
    [{ a: "x\ny" }, '{"a":"x\\ny"}'],
    [
      [new NonRetryableError("declined", { code: "CARD_DECLINED" })],
      '[{"name":"NonRetryableError","message":"declined","code":"CARD_DECLINED"}]'
    ]
  ] as const)("shows %j", ([value, expected]) => {
    assert.strictEqual(jsonLine(value), expected)
  })
})

describe("durationText", () => {
  it.for([
    [-5, "0ms"],
    [12.7, "12ms"],
    [1250, "1.3s"],
    [61_000, "1m"],
    [7_200_000, "2h"]
  ] as const)("%d ms is %s", ([ms, expected]) => {
    assert.strictEqual(durationText(ms), expected)
  })

  it("is counted up to now while the end is unknown", () => {
    assert.strictEqual(
      durationBetween("2027-01-01T00:00:00.000Z", undefined, Date.UTC(2027, 0, 1, 0, 0, 2)),
      "2.0s"
    )
    assert.strictEqual(durationBetween(undefined, undefined, 0), "")
  })
})

describe("tables", () => {
  it("have columns as wide as needed, and no spaces after the last", () => {
    assert.strictEqual(
      table(
        ["RUN", "STATUS"],
        [
          ["run_1", "failed"],
          ["r", ""]
        ]
      ),
      "RUN    STATUS\nrun_1  failed\nr"
    )
  })

  it("of fields omit fields without a value", () => {
    assert.strictEqual(
      fields({ run: "run_1", status: "failed", output: undefined }),
      "run     run_1\nstatus  failed"
    )
  })
})
