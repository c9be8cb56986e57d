import { assert, describe, it } from "@effect/vitest"
import {
  calculateBackoff,
  defaultRetry,
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

describe("resolveRetry", () => {
  it("fills in the defaults", () => {
    assert.deepStrictEqual(resolveRetry(), {
      maxAttempts: 3,
      initialDelayMs: 1000,
      backoffFactor: 2,
      maxDelayMs: 300_000
    })
    assert.deepStrictEqual(resolveRetry({ maxAttempts: 5 }), { ...defaultRetry, maxAttempts: 5 })
    assert.deepStrictEqual(resolveRetry({ maxAttempts: undefined }), defaultRetry)
  })

  it("takes what is left out from the policy given as default", () => {
    const policy = { maxAttempts: 7, initialDelayMs: 10, backoffFactor: 1, maxDelayMs: 20 }

    assert.deepStrictEqual(resolveRetry({ maxAttempts: 1 }, "retry", policy), { ...policy, maxAttempts: 1 })
  })

  it("raises a cap that was not given to a longer first delay, and keeps one that was", () => {
    assert.strictEqual(retryDelayMs(resolveRetry({ initialDelayMs: 600_000 }), 1), 600_000)
    assert.strictEqual(retryDelayMs(resolveRetry({ initialDelayMs: 600_000, maxDelayMs: 500 }), 1), 500)
  })

  it.each<readonly [config: unknown, message: string]>([
    [{ maxAttempts: 0 }, "retry.maxAttempts: it must be an integer of at least 1"],
    [{ maxAttempts: 1.5 }, "got 1.5"],
    [{ maxAttempts: "3" }, "retry.maxAttempts"],
    [{ maxAttempts: Infinity }, "retry.maxAttempts"],
    [{ initialDelayMs: -1 }, "retry.initialDelayMs"],
    [{ initialDelayMs: Number.NaN }, "retry.initialDelayMs"],
    [{ maxDelayMs: Infinity }, "retry.maxDelayMs"],
    [{ backoffFactor: 0.5 }, "retry.backoffFactor: it must be a number of at least 1"],
    [{ backoffFactor: Infinity }, "retry.backoffFactor"],
    ["fast", "retry: it must be an object"],
    [null, "retry: it must be an object"]
  ])("refuses %o", (config, message) => {
    assert.throws(() => resolveRetry(config as RetryConfig), ValidationError)
    assert.throws(() => resolveRetry(config as RetryConfig), message)
  })
})
