/** How Postgres finds the rows of each statement, on tables without statistics. `plans.test.ts` does the same for SQLite. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { configOf, loadDriver, postgresSettingsOf } from "../../../src/Engine/Store/Postgres/Driver.ts"
import { translate } from "../../../src/Engine/Store/Postgres/Dialect.ts"
import { migrateDatabase } from "../../../src/Engine/Store/Postgres/Migrate.ts"
import { NotedDamage } from "../../../src/Engine/Store/Postgres/PostgresTransaction.ts"
import { runSql } from "../../postgres/Schemas.ts"
import { sharedUrl } from "../../postgres/Server.ts"
import { engineStatements } from "./EngineStatements.ts"

/** Small tables, such as those of functions, roles, projections, buckets and engines: they do not grow with use. */
const small = new Set(["environments", "functions", "meta", "engine", "nodes"])

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Index Cond"?: string
  readonly Plans?: ReadonlyArray<Node>
}

/** Tables that a plan reads from end to end. */
const scannedBy = (node: Node): ReadonlyArray<string> => {
  const { "Index Cond": condition, "Node Type": type, "Relation Name": table, Plans = [] } = node
  // an index scan without a condition reads until the reader has enough rows: with a limit that is soon
  const isScan = type === "Seq Scan" || (/^Index (Only )?Scan$/.test(type) && condition === undefined)
  const isBounded = type === "Limit"
  return [
    ...(isScan && table !== undefined && !small.has(table) ? [table] : []),
    ...(isBounded ? [] : Plans.flatMap(scannedBy))
  ]
}

const schema = `plans_${process.pid}`
let explain: (text: string) => Promise<Node>
let close: () => Promise<void>

beforeAll(async () => {
  const options = { url: await sharedUrl(), schema }
  await migrateDatabase(options)
  const { Client } = await loadDriver()
  const client = new Client(configOf(postgresSettingsOf(options)))
  await client.connect()
  const { rows } = await client.query("SHOW server_version_num")
  close = () => client.end()
  explain = async (text) => {
    const answer = await client.query(`EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`)
    return JSON.parse(String(answer.rows[0]["QUERY PLAN"]))[0].Plan
  }
  // earlier versions of Postgres cannot explain a statement without its values
  assert.isAtLeast(Number(rows[0]?.server_version_num), 160_000)
})

afterAll(async () => {
  await close()
  await runSql(`DROP SCHEMA ${schema} CASCADE`)
})

describe("the plans of the statements on Postgres", () => {
  it("scan no table that grows, unless the statement gives a reason", async () => {
    const damage = new NotedDamage()
    const unexplained: Array<string> = []
    for (const statement of engineStatements()) {
      const scans = scannedBy(await explain(translate(statement, damage).text))
      if (scans.length > 0 && statement.scans === undefined)
        unexplained.push(`${statement.name}: ${scans.join(", ")}`)
    }
    assert.deepStrictEqual(unexplained, [])
  })

  it("show a scan where there is one", async () => {
    assert.deepStrictEqual(scannedBy(await explain("SELECT * FROM events WHERE data = $1")), ["events"])
  })
})
