/**
 * A process with a database open, for tests that kill it: `node Engine.ts <database> <task>`. It prints a line for all that
 * the store has acknowledged. With the task `fill` it also prints the errors of the store.
 */
import * as Effect from "effect/Effect"
import * as SqliteStore from "../../../../src/Engine/SqliteStore.ts"
import { handles, Shop, suspend, waitFor } from "../suite/Shop.ts"
import * as RunList from "../../../../src/Engine/Runs/RunList.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import { fireDue } from "../../../../src/Engine/Schedules/FireDue.ts"

const [, , filename = "", task = ""] = process.argv
const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

const main = Effect.gen(function* () {
  const shop = new Shop(yield* SqliteStore.make({ filename }))
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
      const { totalCount } = yield* RunList.listRuns(shop.store, { environment: "default", limit: 1 })
      yield* say(totalCount > 0 ? "reads" : "reads nothing")
      break
    }
    case "hand on": {
      yield* shop.register(handles("charge"))
      for (let i = 0; i < 1500; i++) yield* shop.emit("order.placed")
      const jobs = yield* shop.claim({ room: 1500 })
      const ops = [waitFor("paid:0", "order.paid"), suspend("paid:0")]
      yield* Reports.applyReports(
        shop.store,
        "default",
        jobs.map(({ jobId, runId }) => ({ jobId, runId, ops }))
      )
      yield* say(`waiting ${jobs.length}`)
      yield* shop.emit("order.paid", { n: 1 })
      yield* say("emitted")
      for (let next = 0; next < Infinity; next = (yield* fireDue(shop.store)).nextDueAt) yield* say("fired")
      break
    }
    case "claim":
      yield* shop.register(handles("charge", { actorKey: "event.data.van" }))
      yield* say((yield* shop.start("order.placed", { van: 1 })).runId)
  }
  // stay open until the process is killed
  yield* Effect.callback<never>(() => {
    const alive = setInterval(() => {}, 60_000)
    return Effect.sync(() => clearInterval(alive))
  })
})

await Effect.runPromise(Effect.scoped(main))
