/**
 * A process of its own with a database open, for tests that kill it: `node Engine.ts <database> <task>`. Every line that
 * it prints is something that the store has acknowledged.
 */
import * as Effect from "effect/Effect"
import * as Sqlite from "../../../../src/Engine/Store/Sqlite.ts"
import { handles, Shop } from "../suite/Shop.ts"

const [, , filename = "", task = ""] = process.argv
const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

const main = Effect.gen(function* () {
  const shop = new Shop(yield* Sqlite.make({ filename }))
  yield* say("open")
  switch (task) {
    case "emit":
      yield* shop.register(handles("charge"))
      for (let n = 0; ; n += 8) {
        yield* Effect.forEach(
          [0, 1, 2, 3, 4, 5, 6, 7].map((i) => n + i),
          (i) =>
            Effect.flatMap(shop.emit("order.placed", { n: i }), ({ runIds }) => say(`${i} ${runIds[0]}`)),
          { concurrency: "unbounded" }
        )
      }
    case "fill": {
      yield* shop.register(handles("charge"))
      const emit = shop.emit("order.placed", { note: "x".repeat(10_000) })
      const error = yield* Effect.flip(Effect.forever(emit))
      yield* say(error.code)
      yield* say((yield* Effect.flip(emit)).code)
      yield* say(shop.store.health().status)
      const { totalCount } = yield* shop.store.listRuns({ environment: "default", limit: 1 })
      yield* say(totalCount > 0 ? "reads" : "reads nothing")
      break
    }
    case "claim":
      yield* shop.register(handles("charge", { actorKey: "event.data.van" }))
      yield* say((yield* shop.start("order.placed", { van: 1 })).runId)
  }
  // until it is killed
  yield* Effect.callback<never>(() => {
    const alive = setInterval(() => {}, 60_000)
    return Effect.sync(() => clearInterval(alive))
  })
})

await Effect.runPromise(Effect.scoped(main))
