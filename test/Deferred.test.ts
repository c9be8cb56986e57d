import { assert, describe, it, vi } from "@effect/vitest"
import { createDeferred, sleep } from "../src/Deferred.ts"

describe("createDeferred", () => {
  it("resolves and rejects from outside", async () => {
    const resolved = createDeferred<number>()
    const rejected = createDeferred()

    resolved.resolve(7)
    rejected.reject(new Error("no"))

    assert.strictEqual(await resolved.promise, 7)
    assert.strictEqual(await rejected.promise.catch((error: Error) => error.message), "no")
  })
})

describe("sleep", () => {
  it("resolves when the time has passed, and not before", async () => {
    vi.useFakeTimers()
    try {
      let awake = false
      const sleeping = sleep(1000).then(() => (awake = true))

      await vi.advanceTimersByTimeAsync(999)
      assert.isFalse(awake)
      await vi.advanceTimersByTimeAsync(1)
      await sleeping
      assert.isTrue(awake)
    } finally {
      vi.useRealTimers()
    }
  })

  it("sleeps for longer than one timer can, and not at all for a past time", async () => {
    vi.useFakeTimers()
    try {
      const fortyDays = 40 * 24 * 60 * 60 * 1000
      let awake = false
      const sleeping = sleep(fortyDays).then(() => (awake = true))

      await sleep(-1)
      await sleep(0)
      await vi.advanceTimersByTimeAsync(fortyDays - 1)
      assert.isFalse(awake)
      await vi.advanceTimersByTimeAsync(1)
      await sleeping
      assert.isTrue(awake)
    } finally {
      vi.useRealTimers()
    }
  })
})
