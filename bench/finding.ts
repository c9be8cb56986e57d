/**
 * How long it takes to find runs: makes a database with a million runs in about a minute, and searches it with each kind of
 * filter.
 *
 * node --conditions=@ironflow/source bench/finding.ts [runs] [file]
 *
 * Uses an existing file as it is. One run in fifty has failed, one in a hundred was cancelled, and one in a thousand waits.
 * One in ten thousand is of a rare function. Prints the median and the slowest of seven pages of fifty runs, in milliseconds.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { ListRunsOptions } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { makeRuns, START } from "./million.ts"

const count = Number(process.argv[2] ?? 1_000_000)
const fileArgument = process.argv[3]
const folder = fileArgument === undefined ? mkdtempSync(join(tmpdir(), "ironflow-finding-")) : undefined
const filename = fileArgument ?? join(folder!, "ironflow.db")
const open = () => startEngine({ filename, logger: false, keepRuns: "forever" })

if (!existsSync(filename)) {
  const began = performance.now()
  await makeRuns(filename, count)
  console.log(`made ${count} runs in ${((performance.now() - began) / 1000).toFixed(1)} s`)
}

const middle = START + count * 5
const iso = (at: number) => new Date(at).toISOString()
const searches: { readonly [what: string]: ListRunsOptions } = {
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
for (const [what, filters] of Object.entries(searches)) {
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
