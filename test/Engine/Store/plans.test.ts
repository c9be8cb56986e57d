/** The query plans of all statements: none scans a growing table without a reason. */
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "vitest"
import { migrations } from "../../../src/Engine/Store/Migrations.ts"
import { engineStatements } from "./EngineStatements.ts"

/** Small tables, such as those of functions, roles, projections and buckets: they do not grow with use. */
const small = new Set(["environments", "functions", "meta"])

const db = new DatabaseSync(":memory:")
for (const migration of migrations) db.exec(migration)

const plansOf = (text: string): ReadonlyArray<string> =>
  db
    .prepare(`EXPLAIN QUERY PLAN ${text}`)
    .all()
    .map((row) => String(row.detail))

const scanned = (detail: string): string | undefined => {
  const table = /^SCAN (\w+)/.exec(detail)?.[1]
  // values that the statement itself contains
  return table === undefined || /^(CONSTANT|json_each|value)$/.test(table) ? undefined : table
}

describe("the plans of the statements", () => {
  const found = engineStatements().map((statement) => {
    const plan = plansOf(statement.text.replaceAll(/ ?@sound\([^)]*\)/g, ""))
    const scans = plan.flatMap((detail) => scanned(detail) ?? []).filter((table) => !small.has(table))
    return { statement, plan, scans }
  })

  it("cover all statements", () => {
    assert.isAbove(found.length, 300)
  })

  it("scan no table that grows, unless the statement gives a reason", () => {
    const unexplained = found
      .filter(({ scans, statement }) => scans.length > 0 && statement.scans === undefined)
      .map(({ plan, statement }) => `${statement.name}: ${plan.join("; ")}`)
    assert.deepStrictEqual(unexplained, [])
  })

  it("have a scan wherever the statement gives a reason for one", () => {
    const unneeded = found
      .filter(
        ({ plan, statement }) =>
          // a statement with another text for Postgres may need its reason there
          statement.scans !== undefined &&
          statement.postgres === undefined &&
          !plan.some((line) => line.startsWith("SCAN "))
      )
      .map(({ statement }) => statement.name)
    assert.deepStrictEqual(unneeded, [])
  })

  it("show a scan where there is one", () => {
    assert.deepStrictEqual(
      plansOf("SELECT * FROM events WHERE data = ?").flatMap((d) => scanned(d) ?? []),
      ["events"]
    )
  })
})
