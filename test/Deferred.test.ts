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
})
