import { assert, describe, it } from "@effect/vitest"
import {
  calculateBackoff,
  defaultRetry,
  requestedDelayMs,
  resolveRetry,
  type RetryConfig,
  retryDelayMs
} from "../src/Backoff.ts"
import { ValidationError } from "../src/Errors.ts"

describe("calculateBackoff", () => {
  it.each<readonly [args: readonly [number, number, number, number?], delay: number]>([
    [[1, 1000, 300_000], 1000],
    [[2, 1000, 300_000], 2000],
    [[3, 1000, 300_000], 4000],
    [[9, 1000, 300_000], 256_000],
    [[10, 1000, 300_000], 300_000],
    [[3, 100, 10_000, 3], 900],
    [[5, 100, 10_000, 1], 100],
    [[10_000, 1000, 300_000], 300_000],
    [[10_000, 0, 300_000], 0]
  ])("%o gives %d", (args, delay) => {
    assert.strictEqual(calculateBackoff(...args), delay)
  })
})

describe("retryDelayMs", () => {
  it.each<readonly [jitter: number | undefined, chance: number | undefined, delay: number]>([
    [undefined, 0.9, 4000],
    [0.25, undefined, 4000],
    [0.25, 0, 4000],
    [0.25, 0.5, 3500],
    [1, 0.5, 2000],
    [0, 0.5, 4000]
  ])("with jitter %o and random number %o the third delay is %d", (jitter, chance, delay) => {
    assert.strictEqual(retryDelayMs(resolveRetry({ jitter }), 3, chance), delay)
  })

  it("stays below its limit, whatever the jitter is", () => {
    const policy = resolveRetry({ maxDelayMs: 3000, jitter: 0.5 })
    assert.strictEqual(retryDelayMs(policy, 9, 0), 3000)
    assert.strictEqual(retryDelayMs(policy, 9, 0.5), 2250)
  })
})

describe("requestedDelayMs", () => {
  const now = Date.parse("2026-01-01T00:00:00Z")
  it.each<readonly [retryAfter: unknown, delay: number | undefined]>([
    [undefined, undefined],
    [null, undefined],
    [0, 0],
    [1500.4, 1500],
    ["1500ms", 1500],
    ["1.5h", 5_400_000],
    [" 30s ", 30_000],
    ["30", 30_000],
    ["0", 0],
    ["2026-01-01T00:01:00Z", 60_000],
    ["2025-01-01T00:01:00Z", 0],
    ["Thu, 01 Jan 2026 00:00:10 GMT", 10_000],
    [new Date(now + 5), 5],
    [new Date(now - 5), 0],
    [10 ** 15, 10 * 365 * 86_400_000],
    ["9999999999999", 10 * 365 * 86_400_000],
    [-1, Number.NaN],
    [Number.NaN, Number.NaN],
    [new Date(Number.NaN), Number.NaN],
    ["", Number.NaN],
    ["soon", Number.NaN],
    ["Thursday", Number.NaN],
    ["-5s", Number.NaN],
    [{ seconds: 3 }, Number.NaN],
    [true, Number.NaN],
    [5n, Number.NaN]
  ])("retryAfter %o asks for %o", (retryAfter, delay) => {
    assert.deepStrictEqual(requestedDelayMs({ retryAfter }, now), delay)
  })

  it.each([undefined, null, "busy", 3, new Error("busy")])("%o asks for no delay", (error) => {
    assert.isUndefined(requestedDelayMs(error, now))
  })

  it("a value that throws when it is read asks for no delay", () => {
    const error = Object.defineProperty({}, "retryAfter", {
      get: () => {
        throw new Error("no")
      }
    })
    assert.isUndefined(requestedDelayMs(error, now))
  })
})

describe("resolveRetry", () => {
  it("has defaults", () => {
    assert.deepStrictEqual(resolveRetry(), {
      maxAttempts: 3,
      initialDelayMs: 1000,
      backoffFactor: 2,
      maxDelayMs: 300_000
    })
    assert.deepStrictEqual(resolveRetry({ maxAttempts: 5 }), { ...defaultRetry, maxAttempts: 5 })
    assert.deepStrictEqual(resolveRetry({ maxAttempts: undefined }), defaultRetry)
  })

  it("takes missing fields from the default policy", () => {
    const policy = { maxAttempts: 7, initialDelayMs: 10, backoffFactor: 1, maxDelayMs: 20 }

    assert.deepStrictEqual(resolveRetry({ maxAttempts: 1 }, "retry", policy), { ...policy, maxAttempts: 1 })
  })

  it("raises a missing limit to a longer first delay, and keeps a given limit", () => {
    assert.strictEqual(retryDelayMs(resolveRetry({ initialDelayMs: 600_000 }), 1), 600_000)
    assert.strictEqual(retryDelayMs(resolveRetry({ initialDelayMs: 600_000, maxDelayMs: 500 }), 1), 500)
  })

  it.each<readonly [config: unknown, message: string]>([
    [{ maxAttempts: 0 }, "`maxAttempts` of the retry must be an integer, at least 1"],
    [{ maxAttempts: 1.5 }, "got 1.5"],
    [{ maxAttempts: "3" }, "`maxAttempts` of the retry must be"],
    [{ maxAttempts: Infinity }, "`maxAttempts` of the retry must be"],
    [{ initialDelayMs: -1 }, "`initialDelayMs` of the retry must be"],
    [{ initialDelayMs: Number.NaN }, "`initialDelayMs` of the retry must be"],
    [{ maxDelayMs: Infinity }, "`maxDelayMs` of the retry must be"],
    [{ backoffFactor: 0.5 }, "`backoffFactor` of the retry must be a number, at least 1"],
    [{ backoffFactor: Infinity }, "`backoffFactor` of the retry must be"],
    [{ jitter: -0.1 }, "`jitter` of the retry must be a number from 0 to 1"],
    [{ jitter: 1.1 }, "`jitter` of the retry must be"],
    [{ jitter: true }, "got true"],
    ["fast", 'The retry must be an object such as { maxAttempts: 5 }, got "fast"'],
    [null, "The retry must be an object such as { maxAttempts: 5 }, got null"]
  ])("refuses %o", (config, message) => {
    assert.throws(() => resolveRetry(config as RetryConfig), ValidationError)
    assert.throws(() => resolveRetry(config as RetryConfig), message)
  })
})
