/**
 * Projections with real processes that are killed: engine and workers are killed at seeded times, while events are
 * emitted and projections are rebuilt. The database is judged after each kill of the engine and at the end.
 *
 * `IRONFLOW_TEST_SEED=7 IRONFLOW_TEST_ROUNDS=50` runs fifty schedules from seed 7 on.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { createInterface } from "node:readline"
import { setTimeout as delay } from "node:timers/promises"
import { afterAll, assert, describe, it } from "vitest"
import { createClient } from "@ironflow/node"
import { makeDice } from "./Plan.ts"
import { judge, orderProblems } from "./projections/judge.ts"
import { programArguments } from "../Programs.ts"
import { seeds } from "../Long.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-durability-projections-"))
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

/** Starts a program. `ready` resolves with the rest of the line that says so. */
const begin = async (file: "engine.ts" | "worker.ts", ...args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [...programArguments(`durability/projections/${file}`), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { NODE_COMPILE_CACHE: path.join(folder, "cache"), ...process.env }
  })
  const ready = new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on(
      "line",
      (line) => line.startsWith("ready") && resolve(line.slice(6))
    )
    child.once("exit", (code, signal) =>
      reject(new Error(`${file} ended with ${signal ?? code} before it was ready`))
    )
  })
  ready.catch(() => undefined)
  return { child, ready }
}

const kill = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, "exit")
  child.kill("SIGKILL")
  await ended
}

const runSchedule = async (seed: number, home: string) => {
  const dice = makeDice(seed)
  const database = path.join(home, "engine.db")
  const sideLog = path.join(home, "mails.log")
  fs.writeFileSync(sideLog, "")
  const seen = () => fs.readFileSync(sideLog, "utf8").split("\n").filter(Boolean).map(Number)
  const violations: Array<string> = []
  const children = new Set<ChildProcess>()
  let kills = 0

  let engine = await begin("engine.ts", database, "0")
  children.add(engine.child)
  const serverUrl = await engine.ready
  const { port } = new URL(serverUrl)
  const startWorker = async () => {
    const worker = await begin("worker.ts", serverUrl, sideLog)
    children.add(worker.child)
    return worker
  }
  const workers = [await startWorker(), await startWorker()]
  const client = createClient({ serverUrl })

  try {
    let emitted = 0
    let last = 0
    let rebuilds = 0
    const emitting = (async () => {
      for (let i = 0; i < 250; i++) {
        const name = dice.pick(["order.placed", "order.paid", "user.created"])
        const data = { amount: dice.between(1, 999), customer: `c-${dice.between(0, 5)}` }
        // its key makes it stored once, however often it is repeated
        while (true) {
          try {
            last = (await client.emit(name, data, { idempotencyKey: `e-${i}` })).position ?? 0
            break
          } catch {
            await delay(20)
          }
        }
        emitted++
        if (i % 10 === 0) await delay(dice.between(0, 40))
      }
    })()

    const strikeDice = makeDice(~seed)
    for (let i = 0; i < 6; i++) {
      await delay(strikeDice.between(100, 700))
      const kind = strikeDice.between(0, 4)
      if (kind <= 1) {
        await kill(engine.child)
        kills++
        const copy = path.join(home, `copy-${i}.db`)
        for (const end of ["", "-wal"])
          if (fs.existsSync(database + end)) fs.copyFileSync(database + end, copy + end)
        violations.push(
          ...judge(copy, seen()).violations.map((violation) => `after death ${i}: ${violation}`)
        )
        engine = await begin("engine.ts", database, port)
        children.add(engine.child)
        await engine.ready
      } else if (kind <= 3) {
        const index = strikeDice.between(0, 1)
        await kill(workers[index]!.child)
        kills++
        workers[index] = await startWorker()
      } else {
        await client.projections.rebuild(strikeDice.pick(["one", "per-customer"])).then(
          () => rebuilds++,
          () => undefined
        )
      }
    }
    await emitting
    for (const name of ["one", "per-customer", "mails"]) {
      for (let tries = 0; ; tries++) {
        try {
          await client.projections.waitForCatchup(name, { after: last, timeout: 60_000 })
          break
        } catch (error) {
          if (tries === 5) throw error
          await delay(200)
        }
      }
    }
    for (const { child } of workers) await kill(child)
    await kill(engine.child)
    const verdict = judge(database, seen())
    violations.push(...verdict.violations, ...orderProblems(seen()))
    for (const [name, position] of Object.entries(verdict.positions)) {
      if (position === 0) violations.push(`${name} has not moved`)
    }
    return { violations, kills, emitted, rebuilds, events: verdict.events, states: verdict.states }
  } finally {
    await client.close()
    for (const child of children) await kill(child)
  }
}

describe("projections whose engine and workers are killed again and again", () => {
  for (const seed of seeds(1, 10)) {
    it(`are the fold of their events with seed ${seed}`, { timeout: 240_000 }, async () => {
      const { violations, ...figures } = await runSchedule(seed, fs.mkdtempSync(path.join(folder, "shop-")))

      assert.deepStrictEqual(violations, [], `seed ${seed}`)
      assert.strictEqual(figures.events, 250)
      assert.isAbove(figures.kills, 2)
      assert.isAbove(figures.states, 5)
    })
  }
})

describe("the judge", () => {
  it("finds a state that is not the fold, a state that is missing, and an event that was never handled", async () => {
    const home = fs.mkdtempSync(path.join(folder, "judge-"))
    const database = path.join(home, "engine.db")
    const { DatabaseSync } = await import("node:sqlite")
    const db = new DatabaseSync(database)
    db.exec(`
      CREATE TABLE events (position INTEGER, kind INTEGER, name TEXT, data TEXT);
      CREATE TABLE projections (key INTEGER, name TEXT, position INTEGER, epoch INTEGER);
      CREATE TABLE projection_states (projection INTEGER, epoch INTEGER, partition_key TEXT, state TEXT, position INTEGER);
      INSERT INTO events VALUES (1, 0, 'order.placed', '{"amount":5,"customer":"c-1"}');
      INSERT INTO projections VALUES (1, 'one', 1, 0), (2, 'per-customer', 1, 0), (3, 'mails', 1, 0);
      INSERT INTO projection_states VALUES (1, 0, '__global__', '{"count":2,"digest":5}', 1);
    `)
    db.close()

    assert.lengthOf(judge(database, []).violations, 3)
    assert.lengthOf(judge(database, [1]).violations, 2)
    assert.deepStrictEqual(orderProblems([1, 3, 1, 2]), ["event 2 came after 3"])
  })
})
