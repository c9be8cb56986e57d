/**
 * Keys and values under SIGKILL of the engine (guarantee G13). Writers and a watcher in this process use an engine over
 * HTTP, which is killed at seeded moments, and log its answers. Afterwards the database is compared with these logs, by
 * SQL and arithmetic alone.
 *
 * `IRONFLOW_TEST_SEED=7 IRONFLOW_TEST_ROUNDS=20` runs twenty schedules from seed 7 on.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as delay } from "node:timers/promises"
import { createClient } from "@ironflow/node"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { makeDice } from "./Plan.ts"
import { programArguments } from "../Programs.ts"
import { either, seeds } from "../Long.ts"

const TTL_MS = 300

interface Acknowledged {
  readonly bucket: string
  readonly key: string
  readonly value: string
  readonly revision: number
  /** The revision that it replaced, for an update; 0 for a creation. */
  readonly expected?: number
  readonly requestedAt: number
  readonly answeredAt: number
}

/** An acknowledged atomic write of several keys, all with the same value. */
interface Transfer {
  readonly keys: ReadonlyArray<string>
  readonly value: string
  readonly revisions: ReadonlyArray<number>
}

interface Read {
  readonly key: string
  readonly revision: number
  /** When the read was requested. */
  readonly requestedAt: number
}

class Engine {
  url = ""
  #child: ChildProcess | undefined
  readonly #database: string
  constructor(database: string) {
    this.#database = database
  }
  async start(): Promise<void> {
    const child = spawn(
      process.execPath,
      [
        ...programArguments("durability/kvApp.ts"),
        this.#database,
        // the same port each time: the watcher reconnects to it
        this.url === "" ? "0" : new URL(this.url).port
      ],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
    this.#child = child
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.startsWith("ready ")) continue
      this.url = line.slice("ready ".length)
      return
    }
    throw new Error(`The engine ended with ${child.exitCode} before it was ready`)
  }
  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, "exit")
    child.kill("SIGKILL")
    await ended
  }
}

describe.each(seeds(1, 10))("keys, seed %d", (seed) => {
  let folder: string
  beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "ironflow-kv-"))))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it(
    "lose no acknowledged write and have one winner per revision, whenever the engine is killed",
    { timeout: 120_000 },
    async () => {
      const dice = makeDice(seed)
      const database = join(folder, `keys-${seed}.db`)
      const engine = new Engine(database)
      await engine.start()
      const bucket = async (body: object) =>
        assert.strictEqual(
          (await fetch(`${engine.url}/api/v1/kv/buckets`, { method: "POST", body: JSON.stringify(body) }))
            .status,
          201
        )
      await bucket({ name: "lasting", history: 64 })
      await bucket({ name: "fleeting", ttl_seconds: TTL_MS / 1000 })
      await bucket({ name: "moved", history: 64 })
      await fetch(`${engine.url}/api/v1/config/app`, { method: "POST", body: "{}" })

      const acks: Array<Acknowledged> = []
      const reads: Array<Read> = []
      let isOver = false

      const ask = async (path: string, init?: RequestInit) => {
        try {
          const response = await fetch(`${engine.url}/api/v1/kv/buckets/${path}`, init)
          // oxlint-disable-next-line typescript/no-explicit-any -- the test checks what the engine answers
          const body: any = await response.json()
          return { status: response.status, body }
        } catch {
          // the engine was killed before it answered
          await delay(2)
          return { status: 0, body: undefined }
        }
      }

      const writer = async (me: number): Promise<void> => {
        for (let i = 0; !isOver; i++) {
          const name = i % 3 === 0 ? "fleeting" : "lasting"
          const key = `key-${(me + i) % 5}`
          const value = `writer ${me} write ${i}`
          const now = await ask(`${name}/keys/${key}`)
          if (now.status !== 200 && now.status !== 404) continue
          const expected = now.status === 404 ? 0 : Number(now.body.revision)
          const condition: Record<string, string> =
            expected === 0 ? { "if-none-match": "*" } : { "if-match": String(expected) }
          const requestedAt = Date.now()
          const answer = await ask(`${name}/keys/${key}`, { method: "PUT", body: value, headers: condition })
          if (answer.status === 200)
            acks.push({
              bucket: name,
              key,
              value,
              revision: answer.body.revision,
              expected,
              requestedAt,
              answeredAt: Date.now()
            })
          else assert.include([0, 412], answer.status)
        }
      }
      const reader = async (): Promise<void> => {
        for (let i = 0; !isOver; i++) {
          const requestedAt = Date.now()
          const { body, status } = await ask(`fleeting/keys/key-${i % 5}`)
          if (status === 200) reads.push({ key: body.key, revision: body.revision, requestedAt })
          await delay(1)
        }
      }

      /** Writes a value to three keys at once, so that the keys never differ. */
      const transfers: Array<Transfer> = []
      const mover = async (me: number): Promise<void> => {
        const keys = ["left", "middle", "right"]
        for (let i = 0; !isOver; i++) {
          const value = `mover ${me} transfer ${i}`
          const writes = keys.map((key) => ({ op: "put", key, value: Buffer.from(value).toString("base64") }))
          const { body, status } = await ask("moved/write", {
            method: "POST",
            body: JSON.stringify({ writes })
          })
          if (status === 200) transfers.push({ keys, value, revisions: body.revisions })
          else assert.strictEqual(status, 0)
        }
      }
      /** The acknowledged patches of the configuration. */
      const patches: Array<{ readonly member: string; readonly revision: number }> = []
      const patcher = async (me: number): Promise<void> => {
        for (let i = 0; !isOver; i++) {
          const member = `member-${me}-${i}`
          const { body, status } = await ask("../../config/app", {
            method: "PATCH",
            body: JSON.stringify({ [member]: i })
          })
          if (status === 200) patches.push({ member, revision: body.revision })
          else assert.strictEqual(status, 0)
          await delay(5)
        }
      }

      await using client = createClient({ serverUrl: engine.url })
      /**
       * The revisions that a watcher receives. It reconnects after each kill. The bucket keeps all revisions of these
       * keys.
       */
      const received: Array<number> = []
      await using watcher = client
        .kv()
        .bucket("moved")
        .watch({
          onUpdate: ({ revision }) => void received.push(revision)
        })
      await watcher.ready

      const working = [
        ...Array.from({ length: 6 }, (_, i) => writer(i)),
        reader(),
        mover(1),
        mover(2),
        patcher(1),
        patcher(2)
      ]
      /** Waits until each sort of writer has made progress since the engine started. */
      const progress = async (): Promise<void> => {
        const logs = [acks, transfers, patches]
        const before = logs.map((log) => log.length)
        await vi.waitFor(() => logs.forEach((log, i) => assert.isAbove(log.length, before[i]! + 10)), {
          timeout: 20_000,
          interval: 10
        })
      }
      for (let kills = 0; kills < either(3, 5); kills++) {
        await progress()
        await delay(dice.between(0, 300))
        await engine.kill()
        await engine.start()
      }
      await progress()
      isOver = true
      await Promise.all(working)
      const last = Math.max(...transfers.flatMap(({ revisions }) => revisions))
      await vi.waitFor(() => assert.isAtLeast(received.at(-1) ?? 0, last), { timeout: 30_000 })
      await engine.kill()

      const violations = [
        ...judge(database, acks, reads),
        ...judgeTransfers(database, transfers),
        ...judgeWatch(database, received),
        ...judgePatches(database, patches)
      ]
      assert.deepStrictEqual(violations, [], `seed ${seed}`)
      assert.isAbove(acks.length, 50)
      assert.isAbove(reads.length, 5)
      assert.isAbove(transfers.length, 10)
      assert.isAbove(patches.length, 10)
    }
  )
})

/** The violations of the guarantee, by the database and the logs. */
const judge = (
  file: string,
  acks: ReadonlyArray<Acknowledged>,
  reads: ReadonlyArray<Read>
): ReadonlyArray<string> => {
  const violations: Array<string> = []
  using db = new DatabaseSync(file)
  const rows = db
    .prepare(
      `SELECT b.name AS bucket, e.key, e.revision, e.value, e.operation FROM kv_entries e JOIN kv_buckets b ON b.key = e.bucket
       UNION ALL
       SELECT b.name, h.key, h.revision, h.value, h.operation FROM kv_history h JOIN kv_buckets b ON b.key = h.bucket`
    )
    .all()
    .map((row) => ({
      bucket: String(row.bucket),
      key: String(row.key),
      revision: Number(row.revision),
      value: Buffer.from(row.value as Uint8Array).toString()
    }))
  const kept = new Map(rows.map((row) => [`${row.bucket} ${row.revision}`, row]))
  if (kept.size !== rows.length) violations.push("a revision has two rows")

  const winners = new Map<string, Acknowledged>()
  const successors = new Map<string, Acknowledged>()
  for (const ack of acks) {
    const at = `${ack.bucket} ${ack.revision}`
    if (winners.has(at)) violations.push(`revision ${at} was given twice`)
    winners.set(at, ack)
    if (ack.expected !== undefined && ack.expected > 0) {
      const replaced = `${ack.bucket} ${ack.key} ${ack.expected}`
      if (successors.has(replaced)) violations.push(`two updates of ${replaced} won`)
      successors.set(replaced, ack)
      if (ack.revision <= ack.expected) violations.push(`revision ${at} does not follow ${ack.expected}`)
    }
    const row = kept.get(at)
    if (row !== undefined && (row.key !== ack.key || row.value !== ack.value))
      violations.push(`revision ${at} holds something else than was acknowledged`)
  }

  const lasting = acks.filter(({ bucket }) => bucket === "lasting")
  for (const key of new Set(lasting.map((ack) => ack.key))) {
    const acksOfKey = lasting.filter((ack) => ack.key === key)
    const stored = rows
      .filter((row) => row.bucket === "lasting" && row.key === key)
      .map(({ revision }) => revision)
    const oldest = Math.min(...stored)
    // history may drop only what is older than the newest 64 revisions
    for (const { revision } of acksOfKey)
      if (!stored.includes(revision) && (stored.length < 64 || revision > oldest))
        violations.push(`acknowledged revision ${revision} of ${key} is lost`)
  }

  // a write that was answered before another was requested has the lower revision
  for (const name of ["lasting", "fleeting"]) {
    const acksOfBucket = acks
      .filter(({ bucket }) => bucket === name)
      .toSorted((a, b) => a.revision - b.revision)
    let latestRequest = 0
    for (const ack of acksOfBucket) {
      if (ack.answeredAt < latestRequest)
        violations.push(`revision ${ack.revision} of ${name} goes back in time`)
      latestRequest = Math.max(latestRequest, ack.requestedAt)
    }
  }

  for (const read of reads) {
    const ack = winners.get(`fleeting ${read.revision}`)
    // the write came before its acknowledgement, so one TTL after the acknowledgement the value has expired
    if (ack !== undefined && read.requestedAt > ack.answeredAt + TTL_MS)
      violations.push(
        `revision ${read.revision} was read ${read.requestedAt - ack.answeredAt}ms after it was written`
      )
  }
  return violations
}

const rowsOf = (file: string, bucket: string) => {
  using db = new DatabaseSync(file)
  return db
    .prepare(
      `SELECT key, revision, value FROM kv_entries WHERE bucket = (SELECT key FROM kv_buckets WHERE name = ?1)
       UNION ALL SELECT key, revision, value FROM kv_history WHERE bucket = (SELECT key FROM kv_buckets WHERE name = ?1)
       ORDER BY revision`
    )
    .all(bucket)
    .map((row) => ({
      key: String(row.key),
      revision: Number(row.revision),
      value: Buffer.from(row.value as Uint8Array).toString()
    }))
}

/** An acknowledged write of several keys is stored, and any write is stored with all of its keys. */
const judgeTransfers = (file: string, transfers: ReadonlyArray<Transfer>): ReadonlyArray<string> => {
  const violations: Array<string> = []
  const rows = rowsOf(file, "moved")
  const kept = new Map(rows.map((row) => [row.revision, row]))
  const oldest = rows[0]?.revision ?? 0
  for (const { keys, value, revisions } of transfers) {
    for (const [i, revision] of revisions.entries()) {
      const row = kept.get(revision)
      if (row === undefined ? revision >= oldest : row.key !== keys[i] || row.value !== value)
        violations.push(`acknowledged revision ${revision} of ${keys[i]} is lost`)
    }
  }
  for (let i = 0; i < rows.length; i += 3) {
    const values = new Set(rows.slice(i, i + 3).map(({ value }) => value))
    if (values.size !== 1) violations.push(`revision ${rows[i]?.revision} is half a write`)
  }
  return violations
}

/** The watcher received every revision that the history keeps, once and in order. */
const judgeWatch = (file: string, received: ReadonlyArray<number>): ReadonlyArray<string> => {
  const violations: Array<string> = []
  for (let i = 1; i < received.length; i++)
    if (received[i]! <= received[i - 1]!)
      violations.push(`the watcher received ${received[i]} after ${received[i - 1]}`)
  const known = new Set(received)
  for (const { key, revision } of rowsOf(file, "moved"))
    if (!known.has(revision)) violations.push(`the watcher did not receive revision ${revision} of ${key}`)
  return violations
}

/** No patch undoes another, and each has a revision of its own. */
const judgePatches = (
  file: string,
  patches: ReadonlyArray<{ readonly member: string; readonly revision: number }>
): ReadonlyArray<string> => {
  const violations: Array<string> = []
  const data = JSON.parse(rowsOf(file, "$config")[0]?.value ?? "{}")
  if (new Set(patches.map(({ revision }) => revision)).size !== patches.length)
    violations.push("two patches have the same revision")
  for (const { member } of patches)
    if (!(member in data)) violations.push(`acknowledged ${member} of the configuration is lost`)
  return violations
}
