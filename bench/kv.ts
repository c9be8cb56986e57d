/**
 * `node --conditions=@ironflow/source bench/kv.ts [--json]`: operations on keys per second in an embedded engine, compared
 * with the limit: a plain group commit of `node:sqlite` with the same durability, writers and values, which writes one row for
 * each change.
 *
 * The engine and the limit take turns, and a figure is the median of the rounds.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { startEngine } from "@ironflow/node/engine"
import { RevisionConflictError } from "@ironflow/node"
import { pool } from "./limits/lib/harness.mjs"
import { median } from "./metrics.ts"

const ROUNDS = 3
const WRITES = 5000
const CONTENDED = 300
const WRITERS = 64

const value = { customer: "customer-4711", note: "x".repeat(150) }

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-kv-"))
let files = 0
const newFile = (): string => path.join(folder, `${files++}.db`)

const perSecond = async (
  n: number,
  work: (i: number) => Promise<unknown>,
  writers = WRITERS
): Promise<number> => {
  const start = performance.now()
  await pool(n, writers, work)
  return n / ((performance.now() - start) / 1000)
}

const bytesOf = (value: unknown): Uint8Array => {
  if (value instanceof Uint8Array) return value
  throw new Error("The row is missing")
}

/**
 * The least that any implementation must do: writers queue, one transaction takes the whole queue, and the statement that
 * writes also checks the condition. Values are encoded and decoded as in the engine.
 */
const measureLimit = async (): Promise<Record<string, number>> => {
  const db = new DatabaseSync(newFile())
  db.exec(
    `PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000;
     CREATE TABLE kv (key TEXT PRIMARY KEY, revision INTEGER, value BLOB)`
  )
  const put = db.prepare("INSERT OR REPLACE INTO kv VALUES (?, ?, ?)")
  const update = db.prepare("UPDATE kv SET revision = ?, value = ? WHERE key = ? AND revision = ?")
  const get = db.prepare("SELECT revision, value FROM kv WHERE key = ?")
  const [begin, commit] = [db.prepare("BEGIN IMMEDIATE"), db.prepare("COMMIT")]
  let revision = 0
  let queue: Array<{ readonly run: () => number; readonly done: (revision: number) => void }> = []
  const drain = (): void => {
    const group = queue
    queue = []
    begin.run()
    const results = group.map(({ run }) => run())
    commit.run()
    for (const [i, { done }] of group.entries()) done(results[i] ?? 0)
  }
  const submit = (run: () => number): Promise<number> =>
    new Promise((done) => {
      if (queue.push({ run, done }) === 1) setImmediate(drain)
    })
  const write = (key: string, value: unknown): Promise<number> =>
    submit(() => {
      put.run(key, ++revision, Buffer.from(JSON.stringify(value)))
      return revision
    })
  /** The new revision; 0 for a conflict. */
  const compareAndSet = (key: string, value: unknown, expected: number): Promise<number> =>
    submit(() => {
      const { changes } = update.run(revision + 1, Buffer.from(JSON.stringify(value)), key, expected)
      return changes === 1 ? ++revision : 0
    })
  const read = async (key: string) => {
    const row = get.get(key)
    return { value: JSON.parse(Buffer.from(bytesOf(row?.value)).toString()), revision: Number(row?.revision) }
  }
  const revisions = new Map<string, number>()
  const figures = {
    put: await perSecond(WRITES, async (i) => {
      const key = `key-${i % 1000}`
      revisions.set(key, await write(key, value))
    }),
    get: await perSecond(WRITES, (i) => read(`key-${i % 1000}`)),
    update: await perSecond(WRITES, async (i) => {
      const key = `key-${i % 1000}`
      revisions.set(key, await compareAndSet(key, value, revisions.get(key) ?? 0))
    })
  }
  await write("one", 0)
  const contended = await perSecond(CONTENDED, async () => {
    for (let won = 0; won === 0;) {
      const entry = await read("one")
      won = await compareAndSet("one", Number(entry.value) + 1, entry.revision)
    }
  })
  db.close()
  return { ...figures, contended }
}

const measureIronflow = async (): Promise<Record<string, number>> => {
  await using engine = await startEngine({ filename: newFile(), logger: false })
  await engine.client.kv().createBucket({ name: "bench" })
  const bucket = engine.client.kv().bucket("bench")
  const revisions = new Map<string, number>()
  const put = await perSecond(WRITES, async (i) => {
    const key = `key-${i % 1000}`
    revisions.set(key, (await bucket.put(key, value)).revision)
  })
  const get = await perSecond(WRITES, (i) => bucket.get(`key-${i % 1000}`))
  const update = await perSecond(WRITES, async (i) => {
    const key = `key-${i % 1000}`
    revisions.set(key, (await bucket.update(key, value, revisions.get(key) ?? 0)).revision)
  })
  await bucket.put("one", 0)
  // 64 writers increment one number; only a successful write counts
  const contended = await perSecond(CONTENDED, async () => {
    for (let won = false; !won;) {
      const entry = await bucket.get("one")
      won = await bucket.update("one", Number(entry.value) + 1, entry.revision).then(
        () => true,
        (error: unknown) => {
          if (error instanceof RevisionConflictError) return false
          throw error
        }
      )
    }
  })
  return { put, get, update, contended }
}

const limits: Array<Record<string, number>> = []
const ironflow: Array<Record<string, number>> = []
try {
  for (let i = 0; i < ROUNDS; i++) {
    limits.push(await measureLimit())
    ironflow.push(await measureIronflow())
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true })
}

for (const metric of ["put", "get", "update", "contended"]) {
  const medianOf = (results: ReadonlyArray<Record<string, number>>) =>
    Math.round(median(results.map((result) => result[metric] ?? Number.NaN)))
  const [figure, limit] = [medianOf(ironflow), medianOf(limits)]
  const ratio = Number((figure / limit).toPrecision(3))
  console.log(
    process.argv.includes("--json")
      ? JSON.stringify({ workload: "KV", metric, value: figure, limit, ratio })
      : `${metric.padEnd(10)} ${figure.toLocaleString("en").padStart(9)}/s   limit ${limit.toLocaleString("en").padStart(9)}/s   ${ratio} x`
  )
}
