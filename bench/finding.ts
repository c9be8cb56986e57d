/**
 * How long it takes to find runs: makes a database with a million runs (in about a minute), and asks for each kind of filter.
 *
 *     node --conditions=@ironflow/source bench/finding.ts [runs] [file]
 *
 * A file that is there already is taken as it is. One run in fifty has failed, one in a hundred was cancelled, and a thousand wait;
 * one in ten thousand is of a rare function. Prints the median of seven pages of fifty runs, and the slowest, in milliseconds.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { createFunction, type ListRunsOptions } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const count = Number(process.argv[2] ?? 1_000_000)
const given = process.argv[3]
const folder = given === undefined ? mkdtempSync(join(tmpdir(), "ironflow-finding-")) : undefined
const filename = given ?? join(folder!, "ironflow.db")
const START = Date.UTC(2026, 0, 1)
const open = () => startEngine({ filename, logger: false })

if (!existsSync(filename)) {
  const began = performance.now()
  const engine = await open()
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
  fill()
  console.log(`made ${count} runs in ${((performance.now() - began) / 1000).toFixed(1)} s`)
}

function fill(): void {
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
          CASE WHEN i % 50 = 0 THEN 6 WHEN i % 100 = 1 THEN 7 WHEN i % 1000 = 3 THEN 2 ELSE 5 END, ${position} + i, iif(i % 50 = 0, NULL, '{"ok":true}'),
          iif(i % 50 = 0, ${error}, NULL), ${at}, ${at} + 5, ${at} + 1, CASE WHEN i % 1000 = 3 THEN NULL ELSE ${at} + 5 END FROM n;
      ${numbers} INSERT INTO run_attributes SELECT ${fn("order")}, 'event.data.orderId', 'o-' || i, i FROM n WHERE i % 2 = 0 AND i % 10000 <> 7;
      ${numbers} INSERT INTO run_attributes SELECT ${fn("order")}, 'event.data.shop', 'shop-' || (i % 20), i FROM n WHERE i % 2 = 0 AND i % 10000 <> 7;
      COMMIT`)
  }
  db.exec(`UPDATE search_paths SET below = 0; DELETE FROM streams;
    INSERT INTO streams SELECT environment, entity_id, min(entity_type), max(entity_version), min(timestamp), max(timestamp) FROM events
      WHERE entity_id IS NOT NULL GROUP BY environment, entity_id`)
  db.close()
}

const middle = START + count * 5
const iso = (at: number) => new Date(at).toISOString()
const asked: { readonly [what: string]: ListRunsOptions } = {
  newest: {},
  "function (one in two)": { functionId: "order" },
  "function (rare)": { functionId: "rare" },
  "functions (rare and common)": { functionId: ["rare", "payment"] },
  "status failed": { status: "failed" },
  "status completed": { status: "completed" },
  "statuses failed, cancelled": { status: ["failed", "cancelled"] },
  "statuses waiting, paused": { status: ["waiting", "paused"] },
  "function and statuses": { functionId: "rare", status: ["failed", "cancelled"] },
  "created, one minute": { createdFrom: iso(middle), createdTo: iso(middle + 60_000) },
  "created, one minute, failed": {
    createdFrom: iso(middle),
    createdTo: iso(middle + 60_000),
    status: "failed"
  },
  "created, one minute, function": {
    createdFrom: iso(middle),
    createdTo: iso(middle + 60_000),
    functionId: "order"
  },
  "ended, one minute": { endedFrom: iso(middle), endedTo: iso(middle + 60_000) },
  "ended, none in it": { endedFrom: iso(middle + 7), endedTo: iso(middle + 8) },
  "event name (common)": { eventName: "payment.made" },
  "event name (rare)": { eventName: "order.rare" },
  "event name and function": { eventName: "order.placed", functionId: "rare" },
  entity: { entityId: `order-${Math.floor(count / 100)}` },
  "idempotency key": { idempotencyKey: `key-${Math.floor(count / 8) * 4}` },
  "attribute (unique)": { attributes: { "event.data.orderId": `o-${Math.floor(count / 4) * 2}` } },
  "attribute (one in ten)": { attributes: { "event.data.shop": "shop-2" } },
  "attribute and failed": { attributes: { "event.data.shop": "shop-10" }, status: "failed" },
  "error (common)": { error: "declined by bank 13" },
  "error (unique)": { error: `card ${Math.floor(count / 100) * 50} was` },
  "error (none)": { error: "no such text" },
  "error (code of the cause)": { error: "FRAUD" },
  "where (common)": { where: "event.data.amount > 900" },
  "where (none)": { where: "event.data.amount > 9000" },
  "where, failed": { where: 'error.code == "STEP_FAILED" && event.data.amount == 950', status: "failed" }
}

const engine = await open()
let longest = 0
let last = performance.now()
const turn = setInterval(() => {
  const now = performance.now()
  longest = Math.max(longest, now - last)
  last = now
}, 1)
for (const [what, filters] of Object.entries(asked)) {
  const took: Array<number> = []
  let note = ""
  longest = 0
  last = performance.now()
  for (let i = 0; i < 7; i++) {
    const began = performance.now()
    const page = await engine.client.listRuns({ ...filters, limit: 50 })
    took.push(performance.now() - began)
    note = `${page.runs.length} runs${page.lookedBackTo === undefined ? "" : `, looked back to ${page.lookedBackTo}`}`
  }
  took.sort((a, b) => a - b)
  console.log(
    `${what.padEnd(32)} ${took[3]!.toFixed(1).padStart(7)} ${took[6]!.toFixed(1).padStart(7)}   longest turn ${longest.toFixed(0)}   ${note}`
  )
}
clearInterval(turn)
await engine.close()
if (folder !== undefined) rmSync(folder, { recursive: true })
