/**
 * Entity streams (G9) and `step.tx` with real processes that are killed: engine and worker in two processes, and in
 * one.
 *
 * `IRONFLOW_TEST_SEED=7 IRONFLOW_TEST_ROUNDS=100` runs a hundred plans from seed 7 on instead of the usual few.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { DatabaseSync } from "node:sqlite"
import { afterAll, assert, describe, it } from "vitest"
import { makeDice } from "./Plan.ts"
import { type BankEvidence, type BankPlan, type Death, runBank } from "./streams/Bank.ts"
import { judgeBank } from "./streams/BankChecker.ts"
import { either, seeds } from "../Long.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bank-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const planOf = (seed: number): BankPlan => {
  const dice = makeDice(seed)
  const deaths = Array.from({ length: either(3, 4) }, (): Death => ({
    who: dice.pick(["engine", "worker", "both"]),
    afterMs: dice.between(0, 400)
  }))
  return { seed, embedded: seed % 2 === 0, deaths, transfers: 20, appends: either(20, 40) }
}

/**
 * The worker's process is killed around the end of a body: before it returns, and while its writes are on their way.
 */
const aroundTheEnd = (embedded: boolean): BankPlan => ({
  seed: 0,
  embedded,
  deaths: either([0, 1, 3], [0, 1, 2, 3, 5]).map((turns, i) => ({
    who: "worker",
    afterMs: 0,
    fate: { nth: i + 1, turns }
  })),
  transfers: either(16, 24),
  appends: either(10, 20)
})

const newFolder = (): string => fs.mkdtempSync(path.join(folder, "bank-"))

let last: BankEvidence | undefined

describe.concurrent("a bank with processes that are killed", () => {
  for (const seed of seeds(2, 10)) {
    it(
      `loses nothing, and writes nothing twice or in part, with seed ${seed}`,
      {
        timeout: 240_000
      },
      async () => {
        const plan = planOf(seed)
        const deaths = plan.deaths.filter(({ who }) => plan.embedded || who !== "worker").length
        const evidence = (last = await runBank(plan, newFolder(), cache))

        const { figures, violations } = judgeBank(evidence)
        assert.deepStrictEqual(violations, [], `seed ${seed}`)
        assert.isAtLeast(figures.acknowledged, 4 * plan.appends)
        assert.isAtLeast(figures.transfers, 20)
        assert.isAbove(figures.conflicts, 0, "the writers conflict")
        assert.lengthOf(evidence.snapshots, deaths, "one snapshot for each death of the engine")
      }
    )
  }

  for (const embedded of [false, true]) {
    const where = embedded ? "with its engine" : "alone"
    it(
      `moves all of the money or none when the worker dies ${where} around the end of a transaction's body`,
      {
        timeout: 240_000
      },
      async () => {
        const plan = aroundTheEnd(embedded)
        const { figures, violations } = judgeBank(await runBank(plan, newFolder(), cache))

        assert.deepStrictEqual(violations, [])
        assert.isAtLeast(figures.transfers, plan.transfers)
      }
    )
  }
})

describe("a bank", () => {
  it.each([
    [
      "a hole",
      "UPDATE events SET entity_version = entity_version + 1000 WHERE entity_version = 5",
      /stands where 5 should/
    ],
    [
      "a lost append",
      "DELETE FROM events WHERE position = (SELECT max(position) FROM events WHERE name = 'note.added')",
      /is lost/
    ],
    [
      "half a transaction",
      "DELETE FROM events WHERE position = (SELECT max(position) FROM events WHERE name = 'transfer.done')",
      /has written money.withdrawn, money.deposited$/
    ],
    [
      "a transaction without its step",
      "DELETE FROM steps WHERE kind = 'tx'",
      /has no result of its transaction/
    ],
    [
      "a transaction without its receipt",
      "DELETE FROM kv_entries WHERE bucket = (SELECT key FROM kv_buckets WHERE name = 'receipts') AND revision = 1",
      /and has written ledger\/acc-\d$/
    ],
    [
      "a lost revision",
      "DELETE FROM kv_history WHERE bucket = (SELECT key FROM kv_buckets WHERE name = 'ledger') AND revision = 1",
      /revision 2 stands where 1 should/
    ],
    [
      "a key of a transaction that is not stored",
      "UPDATE kv_entries SET value = CAST(replace(CAST(value AS TEXT), 'run_', 'other_') AS BLOB)",
      /is stored, and has written /
    ],
    ["a wrong count", "UPDATE streams SET version = version + 1", /is said to be at version/]
  ])("is found to be damaged when its database has %s", (_, damage, complaint) => {
    if (last === undefined) return assert.fail("there is no evidence: no bank has run")
    const copy = path.join(newFolder(), "damaged.db")
    fs.copyFileSync(last.database, copy)
    const db = new DatabaseSync(copy)
    db.exec(damage)
    db.close()

    const { violations } = judgeBank({ ...last, database: copy, snapshots: [] })

    assert.isTrue(
      violations.some((violation) => complaint.test(violation)),
      violations.join("\n")
    )
  })
})
