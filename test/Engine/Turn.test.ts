/** What connections send is worked on in turns of the event loop, which are short however many connections there are. */
import { afterEach, assert, describe, it } from "vitest"
import { hasTime, someoneWaits, whenTime } from "../../src/Engine/Http/Turn.ts"

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

describe("what waits for a turn with time", () => {
  it("is called in the order in which it came, each that takes a whole turn in one of its own", async () => {
    startCounting()
    const called: Array<number> = []
    const began: Array<number> = []
    await new Promise<void>((resolve) => {
      for (let i = 0; i < 10; i++) {
        whenTime(() => {
          called.push(i)
          began.push(turns)
          useUp()
          if (i === 9) resolve()
        })
      }
    })

    assert.deepStrictEqual(called, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert.strictEqual(new Set(began).size, 10)
    assert.isFalse(someoneWaits())
  })

  it("comes again after the others, when it has more to do", async () => {
    const called: Array<string> = []
    await new Promise<void>((resolve) => {
      const again = (name: string, times: number) => (): void => {
        called.push(name)
        useUp()
        if (times > 1) whenTime(again(name, times - 1))
        else if (name === "b") resolve()
      }
      whenTime(again("a", 3))
      whenTime(again("b", 3))
    })

    assert.deepStrictEqual(called, ["a", "b", "a", "b", "a", "b"])
  })
})
