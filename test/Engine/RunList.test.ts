/** Long lists of runs: totals are counted only where that is cheap, and other work runs while a page is read. */
import { mkdtempSync, rmSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createFunction, type ListRunsOptions, type Run } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"

const RUNS = 100_000
const LARGE = 24
/** The number of runs of one function, all older than most other runs: more than a list counts exactly. */
const OLD = 12_000

let folder: string
let engine: IronflowEngine
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ironflow-"))
  const filename = join(folder, "ironflow.db")
  const open = () => startEngine({ filename, logger: false })
  const first = await open()
  const ids = ["order", "rare", "large", "old"]
  const worker = first.createWorker({
    functions: ids.map((id) => createFunction({ id, triggers: [] }, async () => undefined)),
    logger: false
  })
  const working = worker.start()
  await vi.waitFor(async () => expect(await first.client.listFunctions()).toHaveLength(4))
  await worker.stop()
  await working
  await first.client.emit("order.placed", {})
  await first.close()

  const db = new DatabaseSync(filename)
  const [{ environment }] = db.prepare("SELECT min(key) AS environment FROM environments").all() as [
    { environment: number }
  ]
  const event = "(SELECT max(position) FROM events)"
  const fn = (id: string) => `(SELECT key FROM functions WHERE id = '${id}')`
  // every 1,000th run is of the rare function, every 5,000th has failed, every 20,000th waits; some keys are not in use
  db.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${RUNS})
    INSERT INTO runs (key, id, environment, function, status, event, output, created_at, updated_at, ended_at)
    SELECT i * 3, 'run_' || i, ${environment}, CASE WHEN i % 1000 = 0 THEN ${fn("rare")} ELSE ${fn("order")} END,
      CASE WHEN i % 20000 = 0 THEN 2 WHEN i % 5000 = 0 THEN 6 ELSE 5 END, ${event}, NULL,
      unixepoch() * 1000, unixepoch() * 1000, CASE WHEN i % 20000 = 0 THEN NULL ELSE unixepoch() * 1000 END FROM n;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${OLD})
    INSERT INTO runs (key, id, environment, function, status, event, output, created_at, updated_at, ended_at)
    SELECT i * 3 + 1, 'run_old_' || i, ${environment}, ${fn("old")}, 5, ${event}, NULL,
      unixepoch() * 1000, unixepoch() * 1000, unixepoch() * 1000 FROM n;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${LARGE})
    INSERT INTO runs (id, environment, function, status, event, output, created_at, updated_at, ended_at)
    SELECT 'run_large_' || i, ${environment}, ${fn("large")}, 5, ${event}, '"' || printf('%.*c', 2000000, 'x') || '"',
      unixepoch() * 1000, unixepoch() * 1000, unixepoch() * 1000 FROM n`)
  db.close()
  engine = await open()
}, 60_000)
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

const listed = async (options: ListRunsOptions) => {
  const runs: Array<Run> = []
  const totals = new Set<number>()
  const pages: Array<number> = []
  let cursor: string | undefined
  do {
    const page = await engine.client.listRuns({ ...options, ...(cursor === undefined ? {} : { cursor }) })
    runs.push(...page.runs)
    totals.add(page.totalCount)
    pages.push(page.runs.length)
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return { ids: runs.map(({ id }) => id), totals: [...totals], pages }
}

const ids = (every: number, fits: (i: number) => boolean = () => true): Array<string> =>
  Array.from({ length: RUNS / every }, (_, i) => RUNS - i * every)
    .filter(fits)
    .map((i) => `run_${i}`)

describe("listRuns over a hundred thousand runs", () => {
  it("returns an exact total when there are few runs, by function, by status and by both", async () => {
    const total = async (options: ListRunsOptions) => {
      const { isTotalExact, totalCount } = await engine.client.listRuns({ ...options, limit: 1 })
      expect(isTotalExact).toBeUndefined()
      return totalCount
    }

    expect(await total({ functionId: "rare" })).toBe(100)
    expect(await total({ status: "failed" })).toBe(15)
    expect(await total({ status: "waiting" })).toBe(5)
    expect(await total({ status: "failed", functionId: "rare" })).toBe(15)
    expect(await total({ status: "failed", functionId: "order" })).toBe(0)
    expect(await total({ status: "completed", functionId: "rare" })).toBe(80)
    expect(await total({ status: "paused" })).toBe(0)
    expect(await total({ functionId: "nobody's" })).toBe(0)
  })

  it("returns a lower bound of the total when there are many runs, and never less than it has listed", async () => {
    const first = await engine.client.listRuns({ limit: 100 })
    expect(first).toMatchObject({ totalCount: 5000, isTotalExact: false })
    expect(await engine.client.listRuns({ status: "completed", limit: 1 })).toMatchObject({
      totalCount: 4999,
      isTotalExact: false
    })
    // the newest five thousand runs contain none of this function
    expect(await engine.client.listRuns({ functionId: "old", limit: 30 })).toMatchObject({
      totalCount: 31,
      isTotalExact: false
    })
    const all = await listed({ functionId: "old", limit: 1000 })
    expect(all.ids).toEqual(Array.from({ length: OLD }, (_, i) => `run_old_${OLD - i}`))
    expect(all.totals).toEqual([...Array.from({ length: 11 }, (_, i) => (i + 1) * 1000 + 1), OLD])
  })

  it("finds matching runs that are far apart, page after page", async () => {
    expect(await listed({ functionId: "rare", limit: 30 })).toEqual({
      ids: ids(1000),
      totals: [100],
      pages: [30, 30, 30, 10]
    })
    expect(await listed({ functionId: "rare", status: "completed", limit: 1000 })).toEqual({
      ids: ids(1000, (i) => i % 5000 !== 0),
      totals: [80],
      pages: [80]
    })
    expect(await listed({ status: "failed", limit: 15 })).toEqual({
      ids: ids(5000, (i) => i % 20_000 !== 0),
      totals: [15],
      pages: [15]
    })
  })

  it("lets other work run while it looks for a page", async () => {
    let turns = 0
    let counting = true
    const look = () => {
      turns++
      if (counting) setImmediate(look)
    }
    look()

    await engine.client.listRuns({ functionId: "old", limit: 10 })

    counting = false
    expect(turns).toBeGreaterThanOrEqual(RUNS / 10_000 - 2)
  })

  it("ends a page before it exceeds 16 MiB", async () => {
    const { ids, pages, totals } = await listed({ functionId: "large", limit: 100 })

    expect(ids).toEqual(Array.from({ length: LARGE }, (_, i) => `run_large_${LARGE - i}`))
    expect(pages).toEqual([9, 9, 6])
    expect(totals).toEqual([LARGE])
  })
})
