/**
 * Measures what one run costs on Postgres, for `docs/production.md`:
 *
 * node --conditions=@ironflow/source bench/cost.ts [--runs 3000] [--flight 64] [--network-ms 1] [--filled] [--top]
 *
 * Measures runs of one step, one after the other, and runs of three steps, 64 in flight. Prints statements, round trips,
 * commits and bytes of the write-ahead log per run, the CPU time of the engine and of Postgres, and how many updates were HOT
 * (touched no index). `--network-ms` delays everything that the engine sends to Postgres. `--filled` uses a database with 1,000,000
 * ended and 100,000 waiting runs. `--top` shows the statements that take most of the time.
 */
import fs from "node:fs"
import process from "node:process"
import { parseArgs } from "node:util"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { loadDriver } from "../src/Engine/Store/Postgres/Driver.ts"
import { traffic } from "../src/Engine/Store/Postgres/Postgres.ts"
import { startProxy } from "../test/postgres/Proxy.ts"
import { startOwnServer } from "../test/postgres/Server.ts"
import { fill } from "./fill.ts"
import { functions } from "./functions.ts"
import { resultOfRun, startRun } from "./runs.ts"

const { values: options } = parseArgs({
  options: {
    runs: { type: "string", default: "3000" },
    flight: { type: "string", default: "64" },
    "network-ms": { type: "string", default: "0" },
    filled: { type: "boolean", default: false },
    top: { type: "boolean", default: false }
  }
})
const runs = Number(options.runs)
const flight = Number(options.flight)
const networkMs = Number(options["network-ms"])

const server = await startOwnServer({
  durable: true,
  settings: options.top ? { shared_preload_libraries: "pg_stat_statements" } : {}
})
const { Client } = await loadDriver()
const client = new Client({ connectionString: server.url })
await client.connect()
const ask = async (text: string): Promise<ReadonlyArray<Record<string, unknown>>> =>
  (await client.query(text)).rows
if (options.top) await ask("CREATE EXTENSION pg_stat_statements")

/** The CPU time of all processes of the server, including ended ones, in milliseconds. */
const serverCpuMs = (): number => {
  let ticks = 0
  for (const name of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, "utf8")
      const fields = stat
        .slice(stat.lastIndexOf(")") + 2)
        .split(" ")
        .map(Number)
      if (Number(name) !== server.pid && fields[1] !== server.pid) continue
      ticks += fields[11]! + fields[12]!
      if (Number(name) === server.pid) ticks += fields[13]! + fields[14]!
    } catch {
      // the process has ended meanwhile
    }
  }
  // Linux counts in hundredths of a second
  return ticks * 10
}

const readCounters = async () => {
  const [wal] = await ask("SELECT pg_current_wal_lsn() - '0/0' AS bytes")
  const { system, user } = process.cpuUsage()
  return { ...traffic, wal: Number(wal?.bytes), engine: (user + system) / 1000, server: serverCpuMs() }
}

const rounded = (text: string, count: number): string => `${text} ${Number(count.toPrecision(3))}`

/** Calls `one` `count` times, `together` at a time, and prints the cost of one call. */
const measure = async (what: string, count: number, together: number, one: () => Promise<unknown>) => {
  const before = await readCounters()
  const times: Array<number> = []
  let next = 0
  const loop = async (): Promise<void> => {
    while (next++ < count) {
      const began = performance.now()
      await one()
      times.push(performance.now() - began)
    }
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: together }, loop))
  const seconds = (performance.now() - began) / 1000
  const after = await readCounters()
  const perCall = (field: keyof typeof before): number => (after[field] - before[field]) / count
  times.sort((a, b) => a - b)
  const figures = [
    rounded("p50 ms", times[count >> 1]!),
    rounded("p95 ms", times[Math.floor(count * 0.95)]!),
    rounded("a second", count / seconds),
    rounded("statements", perCall("statements")),
    rounded("round trips", perCall("roundTrips")),
    rounded("commits", perCall("commits")),
    rounded("log bytes", perCall("wal")),
    rounded("CPU ms: engine", perCall("engine")),
    rounded("Postgres", perCall("server"))
  ]
  console.log(`${what.padEnd(32)} ${figures.join(", ")}`)
}

const proxy = networkMs > 0 ? await startProxy(server.url, { delayMs: networkMs }) : undefined
if (proxy !== undefined) {
  const delayedClient = new Client({ connectionString: proxy.url })
  await delayedClient.connect()
  const began = performance.now()
  for (let i = 0; i < 100; i++) await delayedClient.query("SELECT 1")
  console.log(`a round trip takes ${((performance.now() - began) / 100).toFixed(2)} ms`)
  await delayedClient.end()
}
const open = (): Promise<IronflowEngine> =>
  startEngine({
    databaseUrl: proxy?.url ?? server.url,
    functions,
    maxConcurrentJobs: 512,
    logger: false
  })

if (options.filled) {
  await (await open()).close()
  const began = performance.now()
  await ask("SET search_path = ironflow")
  await fill(ask)
  console.log(`filled in ${((performance.now() - began) / 1000).toFixed(0)} s`)
}
const engine = await open()
const run = async (kind: string) =>
  resultOfRun(engine.client, await startRun(engine.client, kind, { i: 1, note: "x".repeat(120) }))
for (let i = 0; i < 50; i++) await run("s1")
await measure("one step, one after the other", 300, 1, () => run("s1"))
await measure(`three steps, ${flight} in flight`, runs, flight, () => run("s3"))
if (options.top) await ask("SELECT pg_stat_statements_reset()")
await measure(`three steps, ${flight} in flight`, runs, flight, () => run("s3"))

const tables =
  await ask(`SELECT relname AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_hot_upd AS hot, n_dead_tup AS dead,
  autovacuum_count AS vacuums FROM pg_stat_user_tables WHERE n_tup_upd > 0 OR n_tup_ins > 1000 ORDER BY n_tup_upd DESC`)
for (const { dead, hot, ins, name, upd, vacuums } of tables)
  console.log(
    `${String(name).padEnd(16)} inserts ${ins}, updates ${upd}, HOT ${hot}, dead ${dead}, vacuumed ${vacuums}`
  )
if (options.top) {
  const top =
    await ask(`SELECT calls, round(total_exec_time::numeric) AS ms, rows, wal_bytes, wal_records, shared_blks_hit AS hits, left(regexp_replace(query, '\\s+', ' ', 'g'), 150) AS query
    FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 25`)
  for (const one of top) console.log(JSON.stringify(Object.values(one)))
}

const statementsBefore = traffic.statements
const began = performance.now()
await new Promise((resolve) => setTimeout(resolve, 10_000))
console.log(
  `idle: ${((traffic.statements - statementsBefore) / ((performance.now() - began) / 1000)).toFixed(2)} statements a second`
)
await engine.close()
await proxy?.close()
await client.end()
await server.stop()
