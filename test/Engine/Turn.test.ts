/** The engine processes input of connections in short turns of the event loop, however many connections there are. */
import { afterEach, assert, describe, it } from "vitest"
import { hasTime, isWorkWaiting, callWhenTime } from "../../src/Engine/EventLoop.ts"

/** Uses up the time of a turn. */
const useUp = (): void => {
  while (hasTime());
}

let turns = 0
let counting = false
const count = (): void => {
  if (!counting) return
  turns++
  setImmediate(count)
}
const startCounting = (): void => {
  turns = 0
  counting = true
  setImmediate(count)
}
afterEach(() => {
  counting = false
})

describe("work that waits for a turn of the event loop", () => {
  it("runs in order of arrival, and each long piece of work gets a turn of its own", async () => {
    startCounting()
    const called: Array<number> = []
    const began: Array<number> = []
    await new Promise<void>((resolve) => {
      for (let i = 0; i < 10; i++) {
        callWhenTime("rest", () => {
          called.push(i)
          began.push(turns)
          useUp()
          if (i === 9) resolve()
        })
      }
    })

    assert.deepStrictEqual(called, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert.strictEqual(new Set(began).size, 10)
    assert.isFalse(isWorkWaiting())
  })

  it("goes to the end of the queue when it has more to do", async () => {
    const called: Array<string> = []
    await new Promise<void>((resolve) => {
      const again = (name: string, times: number) => (): void => {
        called.push(name)
        useUp()
        if (times > 1) callWhenTime("rest", again(name, times - 1))
        else if (name === "b") resolve()
      }
      callWhenTime("rest", again("a", 3))
      callWhenTime("rest", again("b", 3))
    })

    assert.deepStrictEqual(called, ["a", "b", "a", "b", "a", "b"])
  })

  it("gets a turn of its own when one piece is longer than a turn, with free turns in between", async () => {
    startCounting()
    const began: Array<number> = []
    await new Promise<void>((resolve) => {
      for (let i = 0; i < 5; i++) {
        callWhenTime("body", () => {
          began.push(turns)
          for (const until = performance.now() + 20; performance.now() < until;);
          if (i === 4) resolve()
        })
      }
    })

    assert.strictEqual(new Set(began).size, 5)
    for (const [i, turn] of began.entries()) {
      if (i > 0) assert.isAtLeast(turn - (began[i - 1] ?? 0), 10, `turns in between: ${began.join()}`)
    }
  })

  it.each(["rest", "body", "woken"] as const)(
    "of the kind `little` runs before a hundred others of the kind %s",
    async (kind) => {
      let before = 0
      let all = 0
      await new Promise<void>((resolve) => {
        for (let i = 0; i < 100; i++) {
          callWhenTime(kind, () => {
            useUp()
            if (++all === 10) callWhenTime("little", () => (before = all))
            if (all === 100) resolve()
          })
        }
      })

      assert.isAtLeast(before, 10)
      assert.isAtMost(before, 12)
    }
  )

  it("is not held up by endless work of the kind `little`", async () => {
    let littleCount = 0
    let isOver = false
    const little = (): void => {
      littleCount++
      useUp()
      if (!isOver) callWhenTime("little", little)
    }
    for (let i = 0; i < 10; i++) callWhenTime("little", little)
    await new Promise<void>((resolve) => {
      let left = 10
      const rest = (): void => {
        useUp()
        if (--left === 0) resolve()
        else callWhenTime("rest", rest)
      }
      callWhenTime("rest", rest)
    })
    isOver = true

    assert.isAtMost(littleCount, 40)
  })
})
