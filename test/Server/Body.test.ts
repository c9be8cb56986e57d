/** Bodies that take long to parse get turns of the event loop of their own. */
import { assert, it } from "vitest"
import * as Effect from "effect/Effect"
import { parseJson } from "../../src/Server/Http/Body.ts"

it("large bodies that arrive together are parsed and handled in separate turns of the event loop", async () => {
  let turns = 0
  let isOver = false
  const count = (): void => {
    turns++
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  const text = JSON.stringify(Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`name${i}`, i])))
  const begins: Array<number> = []
  const work = (): void => {
    begins.push(turns)
    for (const until = performance.now() + 10; performance.now() < until;);
  }
  await Promise.all(
    Array.from({ length: 4 }, () =>
      Effect.runPromise(Effect.tap(parseJson(text, {}), () => Effect.sync(work)))
    )
  )
  isOver = true

  assert.strictEqual(new Set(begins).size, 4, begins.join())
  assert.isAtLeast(begins[0] ?? 0, 2)
})

it("small bodies do not wait", () => {
  assert.deepStrictEqual(Effect.runSync(parseJson('{"a":1}', {})), { a: 1 })
})
