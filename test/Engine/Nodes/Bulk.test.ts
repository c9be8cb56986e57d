/** Bulk operations and erases where several engines share a schema: each step takes effect once, and others continue them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import { createFunction } from "../../../src/index.ts"
import { startProxy } from "../../postgres/Proxy.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { type Node, openNode, until, withTwo } from "./Cluster.ts"

const RUNS = 200

const greet = createFunction({ id: "greet", triggers: [{ event: "guest.came" }] }, () => "hello")
const waits = createFunction({ id: "waits", triggers: [{ event: "guest.asked" }] }, ({ step }) =>
  step.waitForEvent("answer", { event: "guest.answered", timeout: "1d" })
)

/** Opens an engine whose queries take long, so that other engines come while it works. */
const openSlow = (options: PostgresOptions): Effect.Effect<Node, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(options.url, { delayMs: 5 })),
      ({ close }) => Effect.promise(close)
    )
    return yield* openNode({ ...options, url: proxy.url })
  })

/** Starts the runs, and waits until all of them have ended or wait for an event. */
const startRuns = (node: Node, name: string, status: "completed" | "waiting") =>
  Effect.gen(function* () {
    yield* Effect.scoped(
      Effect.gen(function* () {
        yield* node.work([greet, waits])
        const events = Array.from({ length: RUNS }, (_, n) => ({ event: name, data: { n } }))
        yield* node.client.emitMany(events)
        yield* until(
          node.client.listRuns({ functionId: name === "guest.came" ? "greet" : "waits", status, limit: 1 }),
          ({ totalCount }) => totalCount === RUNS
        )
      })
    )
  })

const countOf = (options: PostgresOptions, condition: string) =>
  Effect.promise(async () => {
    const [row] = await runSql(`SELECT count(*) AS n FROM runs WHERE ${condition}`, options.schema)
    return Number(row?.n)
  })

const live = (
  name: string,
  test: (options: PostgresOptions) => Effect.Effect<unknown, unknown, Scope.Scope>
) => it.live(name, () => Effect.scoped(Effect.flatMap(takeSchema, test)), 120_000)

describe("a bulk operation on a schema of several engines", () => {
  withTwo(
    "is known to the other engine at once, also in an environment that nobody has used before",
    (a, b) =>
      Effect.gen(function* () {
        const { id } = yield* a.client.bulk("cancel", { functionId: "greet" })
        assert.strictEqual((yield* b.client.getBulk(id)).id, id)
      })
  )

  for (const action of ["rerun", "fork"] as const) {
    live(`starts one new run for each by ${action}, also when engines start in the middle`, (options) =>
      Effect.gen(function* () {
        yield* Effect.scoped(
          Effect.flatMap(openNode(options), (node) => startRuns(node, "guest.came", "completed"))
        )
        const a = yield* openSlow(options)
        const { id } = yield* a.client.bulk(action, { functionId: "greet", createdTo: new Date() })
        const ofB = yield* Scope.make()
        const b = yield* Scope.provide(openNode(options), ofB)
        yield* until(b.client.getBulk(id), ({ done }) => done >= 50)
        const c = yield* openNode(options)
        // whichever engine carries it out, another one is left
        yield* Scope.close(ofB, Exit.void)
        const ended = yield* c.client.waitForBulk(id, { timeout: 60_000 })
        assert.deepInclude(ended, { status: "completed", matched: RUNS, done: RUNS, skipped: {} })
        assert.strictEqual(yield* countOf(options, "true"), 2 * RUNS)
        const [most] = yield* Effect.promise(() =>
          runSql(
            "SELECT max(n)::int AS n FROM (SELECT count(*) AS n FROM runs GROUP BY event) AS e",
            options.schema
          )
        )
        assert.strictEqual(most?.n, 2, "each event has its run and one more")
      })
    )
  }

  live("is continued by another engine when its own ends in the middle, as an erase is", (options) =>
    Effect.gen(function* () {
      const b = yield* openNode(options)
      yield* startRuns(b, "guest.came", "completed")
      yield* startRuns(b, "guest.asked", "waiting")
      const ofA = yield* Scope.make()
      const a = yield* Scope.provide(openSlow(options), ofA)
      const erase = yield* a.client.erase({ runs: { functionId: "greet" } })
      yield* until(b.client.getBulk(erase.id), ({ done }) => done > 0)
      const cancel = yield* a.client.bulk("cancel", { functionId: "waits" })
      yield* until(b.client.getBulk(cancel.id), ({ done }) => done > 0)
      const [cancelled, erased] = yield* Effect.all([cancel, erase].map(({ id }) => b.client.getBulk(id)))
      yield* Scope.close(ofA, Exit.void)
      assert.deepStrictEqual([cancelled?.status, erased?.status], ["running", "running"])
      const [first, second] = yield* Effect.all(
        [cancel, erase].map(({ id }) => b.client.waitForBulk(id, { timeout: 30_000 })),
        { concurrency: "unbounded" }
      )
      assert.deepInclude(first, { status: "completed", matched: RUNS, done: RUNS, skipped: {} })
      assert.deepInclude(second, { status: "completed", skipped: {} })
      assert.deepStrictEqual(second?.kinds, { events: RUNS, runs: RUNS })
      assert.strictEqual(yield* countOf(options, "ended_at IS NULL"), 0)
      assert.strictEqual(yield* countOf(options, "erased_at IS NOT NULL"), RUNS)
      const left = yield* Effect.promise(() => runSql("SELECT * FROM erase_items", options.schema))
      assert.deepStrictEqual(left, [])
    })
  )

  live("can be waited for at an engine that does not carry it out", (options) =>
    Effect.gen(function* () {
      const b = yield* openNode(options)
      yield* startRuns(b, "guest.came", "completed")
      const a = yield* openSlow(options)
      const filters = { functionId: "greet", limit: 20 }
      const { runs } = yield* b.client.listRuns(filters)
      const { id } = yield* a.client.bulk("rerun", { ids: runs.map((run) => run.id) })
      const ended = yield* Effect.timeout(b.client.waitForBulk(id), "20 seconds")
      assert.deepInclude(ended, { status: "completed", done: 20 })
    })
  )
})
