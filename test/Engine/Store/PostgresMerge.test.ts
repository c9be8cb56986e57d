/** Deferred writes to Postgres: which are sent together, and what happens when an assumption was wrong. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Prepared } from "../../../src/Engine/Store/Postgres/Dialect.ts"
import { DeferredWrites } from "../../../src/Engine/Store/Postgres/DeferredWrites.ts"
import { mergedInsert, mergedUpdate } from "../../../src/Engine/Store/Postgres/MergedWrites.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { complete, done, handles, Shop } from "./suite/Shop.ts"

const statement = (name: string, canMerge = true): Prepared => ({
  name,
  text: name,
  ...(canMerge ? { merged: { name: `${name}s`, text: `${name}s`, parameterCount: 1 } } : {})
})

const event = statement("event")
const run = statement("run")
const end = statement("end", false)

/** The statements that are sent for these writes, which were deferred in this order. */
const sent = (...writes: ReadonlyArray<readonly [Prepared, ReadonlyArray<string>, string]>) => {
  const deferred = new DeferredWrites()
  for (const [one, tables, value] of writes) deferred.add(one, one.merged, tables, [value])
  const found: Array<string> = []
  deferred.flush(({ name }, values) => found.push(`${name} ${values.join(" ")}`))
  return found
}

describe("deferred writes", () => {
  it("are sent together when they have the same statement", () => {
    assert.deepStrictEqual(
      sent([event, ["events"], "1"], [run, ["runs"], "a"], [event, ["events"], "2"], [run, ["runs"], "b"]),
      ["events 1,2", "runs a,b"]
    )
  })

  it("are sent after earlier writes to the same tables", () => {
    assert.deepStrictEqual(
      sent(
        [run, ["runs"], "a"],
        [end, ["runs"], "a"],
        [run, ["runs"], "b"],
        [end, ["waits"], "c"],
        [run, ["runs"], "d"]
      ),
      ["run a", "end a", "runs b,d", "end c"]
    )
    // the second `run` reads what `event` stores in between
    assert.deepStrictEqual(
      sent([run, ["runs", "events"], "a"], [event, ["events"], "1"], [run, ["runs", "events"], "b"]),
      ["run a", "event 1", "run b"]
    )
  })

  it("are sent before a statement that could read their rows", () => {
    const deferred = new DeferredWrites()
    deferred.add(run, run.merged, ["runs"], ["a"])
    assert.isTrue(deferred.touches(["waits", "runs"]))
    assert.isFalse(deferred.touches(["waits"]))
    deferred.flush(() => undefined)
    assert.isFalse(deferred.touches(["runs"]))
  })
})

describe("a statement for many rows", () => {
  it("is merged from inserts of literal rows only", () => {
    assert.strictEqual(
      mergedInsert("INSERT INTO topics (environment, name, message_count) VALUES (?, ?, 1)")?.text.trim(),
      "INSERT INTO topics (environment, name, message_count) SELECT v.p1, v.p2, 1 " +
        "FROM unnest(CAST($1 AS BIGINT[]), CAST($2 AS TEXT[])) AS v(p1, p2)"
    )
    assert.isDefined(
      mergedInsert("INSERT INTO runs (id, pin, system_event) VALUES (?, ?, ?)"),
      "columns of later migrations are known"
    )
    for (const other of [
      "INSERT INTO topics (environment, name) SELECT environment, name FROM streams WHERE name = ?",
      "INSERT INTO topics (environment, name) VALUES (?1, ?1)",
      "INSERT INTO topics (environment, name) VALUES (?, upper(?))",
      "INSERT INTO topics (environment, name) VALUES (?, ?) ON CONFLICT (environment, name) DO UPDATE SET bytes = 0",
      "INSERT INTO nowhere (name) VALUES (?)"
    ]) {
      assert.isUndefined(mergedInsert(other), other)
    }
  })

  it("is merged from updates of a row by its key only", () => {
    assert.include(
      mergedUpdate(
        "UPDATE runs SET status = 5, output = ?, updated_at = ? WHERE key = ? AND status IN (1, 3)"
      )?.text,
      "UPDATE runs SET status = 5, output = v.p1, updated_at = v.p2 FROM unnest(CAST($1 AS TEXT[]), CAST($2 AS BIGINT[]), " +
        "CAST($3 AS BIGINT[])) AS v(p1, p2, p3) WHERE key = v.p3 AND status IN (1, 3)"
    )
    for (const other of [
      "UPDATE runs SET status = 5 WHERE lease = ?",
      "UPDATE runs SET error = CASE WHEN status = 3 THEN error ELSE ? END WHERE key = ?",
      "UPDATE runs SET error = 'none?' WHERE key = ?"
    ]) {
      assert.isUndefined(mergedUpdate(other), other)
    }
  })
})

describe("a write with a wrong assumption", () => {
  it.live("is the only one refused, after the transaction was repeated without assumptions", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const options = yield* takeSchema
        const shop = new Shop(yield* PostgresStore.make({ ...options, poolSize: 3 }))
        yield* shop.register(handles("charge"))
        yield* shop.emit("order.placed", { n: 1 })
        yield* shop.emit("order.placed", { n: 2 })
        const [one, two] = yield* shop.claim({ room: 2 })
        // only an engine writes a status: the test breaks that rule
        yield* Effect.promise(() =>
          runSql(`UPDATE runs SET status = 7 WHERE id = '${one!.runId}'`, options.schema)
        )
        const [reason] = yield* Effect.all(
          [
            shop.refused(one!, done("charge:0"), complete()),
            shop.report(two!, done("charge:0"), complete("paid"))
          ],
          { concurrency: "unbounded" }
        )
        assert.strictEqual(reason, "LEASE_LOST")
        assert.strictEqual(yield* shop.status(two!.runId), "completed")
        assert.deepStrictEqual(yield* shop.steps(one!.runId), [])
      })
    )
  )
})
