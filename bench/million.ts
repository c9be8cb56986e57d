/**
 * Makes a database with very many runs, to try an engine with a long history:
 *
 * node --conditions=@ironflow/source bench/million.ts ironflow.db [runs]
 *
 * By default a million, in about a minute and 1.2 GB. One run in fifty has failed, one in a hundred was cancelled, and one in
 * a thousand waits for an event. One in ten thousand is of a rare function. `ironflow serve --data ironflow.db --keep-runs
 * forever` then serves them.
 */
import { existsSync } from "node:fs"
import path from "node:path"
import process from "node:process"
import { pathToFileURL } from "node:url"
import { DatabaseSync } from "node:sqlite"
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

/** When the first run was created, in epoch milliseconds. Each further run is 10 ms later. */
export const START = Date.UTC(2026, 0, 1)

/** The timeout of waiting runs, in milliseconds. */
const YEARS = 10 * 365 * 86_400_000

/** Makes the file, which must not exist yet. */
export const makeRuns = async (filename: string, count: number): Promise<void> => {
  const engine = await startEngine({ filename, logger: false })
  const worker = engine.createWorker({
    functions: ["order", "payment", "shipment", "rare"].map((id) =>
      createFunction(
        {
          id,
          triggers: [],
          ...(id === "order" ? { searchBy: ["event.data.orderId", "event.data.shop"] } : {})
        },
        async () => undefined
      )
    ),
    logger: false
  })
  const working = worker.start()
  while ((await engine.client.listFunctions()).length < 4) await new Promise(setImmediate)
  await worker.stop()
  await working
  await engine.client.emit("order.placed", {})
  await engine.close()
  fill(filename, count)
}

const fill = (filename: string, count: number): void => {
  const db = new DatabaseSync(filename)
  db.exec("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")
  const [{ environment, position }] = db
    .prepare(
      "SELECT (SELECT min(key) FROM environments) AS environment, (SELECT max(position) FROM events) AS position"
    )
    .all() as [{ environment: number; position: number }]
  const fn = (id: string) => `(SELECT key FROM functions WHERE id = '${id}')`
  const at = `${START} + i * 10`
  const error = `'{"name":"StepError","message":"Step \\"charge\\" failed: card ' || i || ' was declined by bank ' || (i % 97) ||
    '","code":"STEP_FAILED","stack":"' || printf('%.*c', 900, 'x') || '","cause":{"name":"Error","message":"declined","code":"' ||
    iif(i % 5000 = 0, 'FRAUD', 'DECLINED') || '"}}'`
  for (let from = 1; from <= count; from += 100_000) {
    const numbers = `WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${Math.min(count, from + 99_999)})`
    db.exec(`BEGIN;
      ${numbers} INSERT INTO events (position, environment, kind, id, name, version, data, timestamp, idempotency_key, entity_id, entity_type, entity_version)
        SELECT ${position} + i, ${environment}, 0, 'evt_' || printf('%025d', i), CASE WHEN i % 10000 = 7 THEN 'order.rare' WHEN i % 2 = 0 THEN 'order.placed' ELSE 'payment.made' END, 1,
          '{"orderId":"o-' || i || '","shop":"shop-' || (i % 20) || '","amount":' || (i % 1000) || '}', ${at},
          iif(i % 4 = 0, 'key-' || i, NULL), iif(i % 5 = 0, 'order-' || (i / 50), NULL), iif(i % 5 = 0, 'order', NULL), iif(i % 5 = 0, i % 50 / 5 + 1, NULL) FROM n;
      ${numbers} INSERT INTO runs (key, id, environment, function, status, event, output, error, created_at, updated_at, started_at, ended_at)
        SELECT i, 'run_' || printf('%025d', i), ${environment}, CASE WHEN i % 10000 = 7 THEN ${fn("rare")} WHEN i % 2 = 0 THEN ${fn("order")} WHEN i % 3 = 0 THEN ${fn("shipment")} ELSE ${fn("payment")} END,
          CASE WHEN i % 50 = 0 THEN 6 WHEN i % 100 = 1 THEN 7 WHEN i % 1000 = 3 THEN 2 ELSE 5 END, ${position} + i, iif(i % 50 = 0 OR i % 100 = 1 OR i % 1000 = 3, NULL, '{"ok":true}'),
          iif(i % 50 = 0, ${error}, NULL), ${at}, ${at} + 5, ${at} + 1, CASE WHEN i % 1000 = 3 THEN NULL ELSE ${at} + 5 END FROM n;
      ${numbers} INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, environment, event, timeout_ms, created_at)
        SELECT i, 'for shipment:0', 2, 'for shipment', 'waitForEvent', ${at} + 5 + ${YEARS}, ${environment}, 'order.shipped', ${YEARS}, ${at} + 5 FROM n WHERE i % 1000 = 3;
      ${numbers} INSERT INTO run_attributes SELECT ${fn("order")}, 'event.data.orderId', 'o-' || i, i FROM n WHERE i % 2 = 0 AND i % 10000 <> 7;
      ${numbers} INSERT INTO run_attributes SELECT ${fn("order")}, 'event.data.shop', 'shop-' || (i % 20), i FROM n WHERE i % 2 = 0 AND i % 10000 <> 7;
      COMMIT`)
  }
  db.exec(`UPDATE search_paths SET below = 0; DELETE FROM streams;
    INSERT INTO streams SELECT environment, entity_id, min(entity_type), max(entity_version), min(timestamp), max(timestamp) FROM events
      WHERE entity_id IS NOT NULL GROUP BY environment, entity_id`)
  db.close()
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(path.resolve(process.argv[1])).href) {
  const [, , filename, runs = "1000000"] = process.argv
  if (filename === undefined || !/^\d+$/.test(runs) || Number(runs) < 1) {
    console.error("Usage: node --conditions=@ironflow/source bench/million.ts FILE [RUNS]")
    process.exitCode = 2
  } else if (existsSync(filename)) {
    console.error(`"${filename}" exists, and is not overwritten`)
    process.exitCode = 1
  } else {
    const began = performance.now()
    await makeRuns(filename, Number(runs))
    console.log(`${filename} has ${runs} runs, made in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  }
}
