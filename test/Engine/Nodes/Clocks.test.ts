/** Engines on machines with different clocks: what they store and say goes by the clock of the database. */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { createFunction } from "../../../src/index.ts"
import { until, withTwo } from "./Cluster.ts"

const AHEAD_MS = 300_000

/** Runs an effect on a machine whose clock is five minutes ahead. */
const ahead = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.service(Clock.Clock), (clock) => {
    const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + AHEAD_MS
    return Effect.provideService(self, Clock.Clock, {
      ...clock,
      sleep: (duration: Duration.Duration) => clock.sleep(duration),
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      currentTimeMillisUnsafe,
      currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + BigInt(AHEAD_MS) * 1_000_000n
    })
  })

const charge = createFunction({ id: "charge", triggers: [{ event: "order.placed" }] }, () => "charged")
const naps = createFunction({ id: "naps", triggers: [{ event: "nap" }] }, ({ step }) =>
  step.sleep("nap", "1h")
)

withTwo("an explanation does not depend on the clock of the machine that asks", (a, b) =>
  Effect.gen(function* () {
    yield* Effect.scoped(
      Effect.gen(function* () {
        yield* a.work([charge, naps])
        yield* a.client.emit("nap", {})
        yield* until(a.client.listRuns({ status: "waiting" }), ({ totalCount }) => totalCount === 1)
      })
    )
    yield* a.client.emit("order.placed", {})
    const { runs } = yield* b.client.listRuns({})
    const explained = yield* ahead(Effect.forEach(runs, ({ id }) => b.client.explain(id)))
    const [ready, sleeping] = explained.toSorted(({ code }) => (code === "SLEEPING" ? 1 : -1))
    assert.isBelow(Number(ready?.details.waitingMs), AHEAD_MS / 2)
    assert.match(String(sleeping?.message), /in (1h|59m)/)
  })
)
