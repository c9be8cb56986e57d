/** Tests of the checker: it accepts sound evidence, and finds each fault that is put into it. */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { DatabaseSync } from "node:sqlite"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { copyDatabase, type Evidence, runPlan } from "./Chaos.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  checkGuarantees,
  ChecksGuarantees,
  type CheckedRuns
} from "../../src/Engine/Guarantees/GuaranteeCheck.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { Store } from "../../src/Engine/Store/Store.ts"
import { judge, lawNames } from "./Checker.ts"
import type { Ack } from "./Customer.ts"
import { FOREVER, type Item } from "./Plan.ts"
import type { Line } from "./SideLog.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-checker-"))
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const emit = (key: string, data: Extract<Item, { op: "emit" }>["data"]): Item => ({
  op: "emit",
  key,
  name: key.split("/")[0]!,
  data: { work: 5, ...data }
})

/** Each life requests a longer part of this list, see `runPlan`. */
const items: ReadonlyArray<Item> = [
  emit("order.placed/1", { orderId: "o-1", pause: 20 }),
  emit("payment.requested/2", { orderId: "o-2", firstTimeout: FOREVER, secondTimeout: 50 }),
  emit("payment.received/3", { orderId: "o-2", amount: 60 }),
  emit("payment.requested/4", { orderId: "o-4", firstTimeout: FOREVER, secondTimeout: FOREVER }),
  { op: "cancel", key: "cancel/5", of: "payment.requested/4" },
  emit("bill.requested/6", { child: "good" }),
  emit("text.requested/7", { failures: 1 }),
  emit("trip.requested/8", { failAt: "end", stubborn: false }),
  emit("pages.requested/9", { printer: "p-1", pages: 1, pause: 5 }),
  emit("news.written/10", { pause: 5 }),
  emit("report.requested/11", { failures: 1 }),
  emit("parcel.packed/12", {}),
  emit("news.written/13", { pause: 5 })
]

let sound: Evidence
beforeAll(async () => {
  const shop = path.join(folder, "sound")
  fs.mkdirSync(shop)
  const fates = [
    { _tag: "After", from: "ready", ms: 0 },
    { _tag: "At", place: "begin", nth: 1000, turns: 0 }
  ] as const
  sound = await runPlan(
    { seed: 0, items, fates },
    shop,
    process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
  )
}, 60_000)

interface Tampering {
  /** Changes the final database, by SQL. */
  readonly sql?: string
  /** Changes the database that the last kill left behind. */
  readonly snapshotSql?: string
  readonly lines?: (lines: ReadonlyArray<Line>) => ReadonlyArray<Line>
  readonly acks?: (acks: ReadonlyArray<Ack>) => ReadonlyArray<Ack>
}

let copies = 0
const tamper = (tampering: Tampering): Evidence => {
  const change = (from: string, sql: string | undefined): string => {
    if (sql === undefined) return from
    const copy = path.join(folder, `tampering-${copies++}.db`)
    copyDatabase(from, copy)
    const db = new DatabaseSync(copy, { defensive: false })
    db.exec(sql)
    db.close()
    return copy
  }
  return {
    ...sound,
    database: change(sound.database, tampering.sql),
    snapshots: sound.snapshots.map((snapshot, i) =>
      i < sound.snapshots.length - 1
        ? snapshot
        : { ...snapshot, database: change(snapshot.database, tampering.snapshotSql) }
    ),
    lines: tampering.lines?.(sound.lines) ?? sound.lines,
    acks: tampering.acks?.(sound.acks) ?? sound.acks
  }
}

type Begin = Extract<Line, { t: "begin" }>

const isOf = (fn: string, key: string) => {
  return (line: Line): line is Begin => line.t === "begin" && line.fn === fn && line.key === key
}
/** Adds another execution of a step after its last one. */
const addExecution =
  (fn: string, key: string) =>
  (lines: ReadonlyArray<Line>): ReadonlyArray<Line> => {
    const begin = lines.findLast(isOf(fn, key))!
    const token = "once-more"
    return [...lines, { ...begin, token }, { ...begin, t: "end", token }]
  }
/** Changes the first line that fits. */
const changeFirst =
  (fits: (line: Line) => boolean, change: (line: Begin) => Line) =>
  (lines: ReadonlyArray<Line>): ReadonlyArray<Line> => {
    const i = lines.findIndex(fits)
    assert.notStrictEqual(i, -1)
    // callers look for such lines only
    return lines.with(i, change(lines[i] as Begin))
  }

const runOf = (fn: string): string =>
  `(SELECT min(r.key) FROM runs r JOIN functions f ON f.key = r.function WHERE f.id = '${fn}')`
const copyRow = (table: string, where: string, changes: string): string =>
  `CREATE TEMP TABLE copied AS SELECT * FROM ${table} WHERE ${where}; UPDATE copied SET ${changes}; INSERT INTO ${table} SELECT * FROM copied`

const cases: ReadonlyArray<readonly [what: string, law: string, tampering: Tampering]> = [
  [
    "a row that its table does not allow",
    "the file is sound",
    {
      sql: "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'actor TEXT,', 'actor TEXT NOT NULL,') WHERE name = 'runs'"
    }
  ],
  [
    "an event that is lost",
    "an acknowledged event is in the log once",
    { sql: "DELETE FROM events WHERE idempotency_key = 'order.placed/1'" }
  ],
  [
    "an event that was lost and came back when it was asked for again",
    "an acknowledged event is in the log once",
    { snapshotSql: "DELETE FROM events WHERE idempotency_key = 'order.placed/1'" }
  ],
  [
    "an event that is there twice",
    "an acknowledged event is in the log once",
    { sql: copyRow("events", "idempotency_key = 'payment.received/3'", "position = 1000, id = 'evt_2'") }
  ],
  [
    "a second acknowledgement that contradicts the first",
    "an acknowledged event is in the log once",
    { acks: (acks) => [...acks, { ...acks.find((ack) => ack.op === "emit")!, eventId: "evt_2" } as Ack] }
  ],
  [
    "a run that is missing",
    "an event has one run for each function that it starts",
    { sql: `DELETE FROM runs WHERE key = ${runOf("process-order-effect")}` }
  ],
  [
    "a run that is there twice",
    "an event has one run for each function that it starts",
    { sql: copyRow("runs", `key = ${runOf("process-order")}`, "key = 1000, id = 'run_2'") }
  ],
  [
    "a run that failed and should not have",
    "a run ends as its function says",
    { sql: `UPDATE runs SET status = 6, error = '{"message":"lost"}' WHERE key = ${runOf("process-order")}` }
  ],
  [
    "a kill that was counted as an attempt of the run",
    "a run ends as its function says",
    { sql: `UPDATE runs SET attempt = 2 WHERE key = ${runOf("process-order")}` }
  ],
  [
    "a step that is missing in the journal",
    "a run ends as its function says",
    { sql: `DELETE FROM steps WHERE run = ${runOf("process-order")} AND step_key = 'settle:0'` }
  ],
  [
    "a step that ran twice",
    "a recorded step never runs again",
    { lines: addExecution("process-order", "ship:0") }
  ],
  [
    "a step that ran twice and was recorded the second time",
    "a recorded result never changes",
    {
      sql: `UPDATE steps SET value = '{"key":"ship:0","token":"once-more"}' WHERE run = ${runOf("process-order")} AND step_key = 'ship:0'`
    }
  ],
  [
    "a compensation that ran twice",
    "a recorded step never runs again",
    { lines: addExecution("book-trip-effect", "compensate:car:0") }
  ],
  [
    "a result that changed",
    "a recorded result never changes",
    {
      sql: `UPDATE steps SET value = '{}' WHERE run = ${runOf("process-order-effect")} AND step_key = 'charge:0'`
    }
  ],
  [
    "a step that began after a result that was then lost",
    "a step begins when all that its handler has seen is stored",
    { snapshotSql: `DELETE FROM steps WHERE run = ${runOf("process-order")} AND step_key = 'charge:0'` }
  ],
  [
    "a handler that saw another result the second time",
    "a step begins when all that its handler has seen is stored",
    {
      lines: changeFirst(isOf("process-order", "ship:0"), (line) => ({
        ...line,
        seen: { ...line.seen, "charge:0": "another" }
      }))
    }
  ],
  [
    "a step that began again while it was running",
    "a step runs again only when it has failed or its process died",
    {
      lines: (lines) => {
        const i = lines.findIndex(isOf("process-order", "charge:0"))
        return lines.toSpliced(i, 0, { ...(lines[i] as Begin), token: "at the same time" })
      }
    }
  ],
  [
    "an attempt too many",
    "attempts count failures and nothing else",
    { lines: changeFirst(isOf("send-text", "text:0"), (line) => ({ ...line, attempt: 4 })) }
  ],
  [
    "a kill that was counted as an attempt",
    "attempts count failures and nothing else",
    { lines: changeFirst(isOf("send-text-effect", "file:0"), (line) => ({ ...line, attempt: 2 })) }
  ],
  [
    "a failure that was not counted",
    "a step runs again only when it has failed or its process died",
    {
      lines: changeFirst(
        (line) => isOf("send-text", "text:0")(line) && line.attempt === 2,
        (line) => ({ ...line, attempt: 1 })
      )
    }
  ],
  [
    "compensations in the order of the steps",
    "compensations run once, in reverse order, after the failure",
    {
      lines: (lines) =>
        lines.map((line) =>
          "key" in line && line.key.startsWith("compensate:")
            ? { ...line, key: line.key.includes("car") ? "compensate:flight:0" : "compensate:car:0" }
            : line
        )
    }
  ],
  [
    "a compensation that was left out",
    "compensations run once, in reverse order, after the failure",
    { sql: "DELETE FROM steps WHERE step_key = 'compensate:hotel:0'" }
  ],
  [
    "a compensation without a failure",
    "compensations run once, in reverse order, after the failure",
    {
      lines: changeFirst(isOf("process-order", "ship:0"), (line) => ({ ...line, key: "compensate:charge:0" }))
    }
  ],
  [
    "a sleep that was too short",
    "nothing is early",
    { sql: "UPDATE steps SET ended_at = started_at + 4 WHERE step_key = 'settle:0'" }
  ],
  [
    "a retry that came too soon",
    "nothing is early",
    {
      lines: changeFirst(
        (line) => isOf("send-text", "text:0")(line) && line.attempt === 2,
        (line) => ({ ...line, at: 0 })
      )
    }
  ],
  [
    "a wait that got the event of another order",
    "a wait gets the first event that it accepts",
    { sql: `UPDATE steps SET value = '{"id":"evt_2"}' WHERE step_key = 'payment:0'` }
  ],
  [
    "a wait that missed its event",
    "a wait gets the first event that it accepts",
    { sql: "UPDATE steps SET failed = 1 WHERE step_key = 'payment:0'" }
  ],
  [
    "a step with two children",
    "a step that invokes has one child",
    { sql: copyRow("runs", `key = ${runOf("make-invoice")}`, "key = 1000, id = 'run_2'") }
  ],
  [
    "a child that no longer belongs to its parent",
    "a step that invokes has one child",
    { sql: `UPDATE runs SET input = '{"by":"nobody"}' WHERE key = ${runOf("notify")}` }
  ],
  [
    "a message that was published twice",
    "a message is published once",
    {
      sql: copyRow(
        "events",
        "position = (SELECT min(position) FROM events WHERE name = 'news')",
        "position = 1000, id = 'msg_2'"
      )
    }
  ],
  [
    "a message that is lost",
    "a message is published once",
    { sql: "DELETE FROM events WHERE name = 'news'" }
  ],
  [
    "a transaction that was carried out twice",
    "a transaction is carried out once",
    { sql: copyRow("events", "name = 'parcel.booked'", "position = 1000, id = 'evt_2', entity_version = 2") }
  ],
  [
    "a transaction that is lost",
    "a transaction is carried out once",
    { sql: "DELETE FROM events WHERE name = 'parcel.booked'" }
  ],
  [
    "three executions where the limit is two",
    "a concurrency limit is never exceeded",
    {
      lines: (lines) => {
        const begin = lines.find(isOf("print-pages", "page:0"))!
        return [...lines, ...["a", "b", "c"].map((token) => ({ ...begin, token }))]
      }
    }
  ],
  [
    "a cancelled run that goes on",
    "a cancelled run is over",
    {
      lines: (lines) => {
        const { run } = lines.find((line) => line.t === "cancelled")!
        return [...lines, { ...lines.find(isOf("collect-payment", "ask:0"))!, run }]
      }
    }
  ],
  [
    "a run that goes on after its end",
    "a run that has ended does nothing any more",
    {
      lines: (lines) => [
        ...lines,
        { ...lines.find(isOf("process-order", "ship:0"))!, key: "ship again:0", token: "once-more" }
      ]
    }
  ],
  [
    "a run that nothing will wake",
    "no run is stuck",
    {
      snapshotSql: `UPDATE runs SET status = 2, ended_at = NULL WHERE key = ${runOf("process-order")}`
    }
  ],
  [
    "a run that has not ended",
    "no run is stuck",
    { sql: `UPDATE runs SET status = 2, ready_at = 1 WHERE key = ${runOf("process-order")}` }
  ]
]

describe("the checker", () => {
  it("accepts a sound history", () => {
    const { figures, violations } = judge(sound)
    assert.deepStrictEqual(violations, [])
    assert.strictEqual(figures.events, items.length - 1 + 5)
  })

  for (const [what, law, tampering] of cases) {
    it(`finds ${what}`, () => {
      const { violations } = judge(tamper(tampering))
      assert.include(
        violations.map((violation) => violation.law),
        law
      )
    })
  }

  it("is tested with a violation of every law", () => {
    assert.deepStrictEqual(new Set(cases.map(([, law]) => law)), new Set(lawNames))
  })
})

/** Checks the guarantees before and after a change, as a live engine does. */
const violationsOf = async (from: string, sql: string | undefined): Promise<ReadonlyArray<string>> => {
  const copy = path.join(folder, `checked-${copies++}.db`)
  copyDatabase(from, copy)
  const known: CheckedRuns = new Map()
  const found: Array<string> = []
  const checkOnce = () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const store = yield* Store
        yield* checkGuarantees({
          store,
          keepMs: Number.POSITIVE_INFINITY,
          known,
          pace: (slice) => slice,
          report: ({ guarantee, message }) => void found.push(`${guarantee} ${message}`)
        })
      }).pipe(
        Effect.provide(SqliteStore.layer({ filename: copy })),
        Effect.provide(Layer.succeed(ChecksGuarantees, false))
      )
    )
  await checkOnce()
  assert.deepStrictEqual(found, [])
  if (sql === undefined) return found
  const db = new DatabaseSync(copy, { defensive: false })
  db.exec(sql)
  db.close()
  await checkOnce()
  return found
}

describe("the check of the guarantees in a live engine", () => {
  it("accepts a sound engine, however often it looks", async () => {
    assert.deepStrictEqual(await violationsOf(sound.database, "SELECT 1"), [])
    for (const { database } of sound.snapshots)
      assert.deepStrictEqual(await violationsOf(database, "SELECT 1"), [])
  })

  for (const [what, , { snapshotSql, sql }] of cases) {
    // the check reads rows only, and not the side log
    if (sql === undefined && snapshotSql === undefined) continue
    it(`finds ${what}`, async () => {
      const from = sql === undefined ? sound.snapshots.at(-1)!.database : sound.database
      assert.isNotEmpty(await violationsOf(from, sql ?? snapshotSql))
    })
  }
})
