/** Runs a plan: starts the shop, kills it as the plan says, starts it again, and collects the evidence. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import net from "node:net"
import path from "node:path"
import process from "node:process"
import { createInterface } from "node:readline"
import { setTimeout as delay } from "node:timers/promises"
import type { LifeOptions, Remote } from "./app.ts"
import type { Ack } from "./Customer.ts"
import { type Dice, type Fate, makeDice, type Plan } from "./Plan.ts"
import { type Line, readSideLog } from "./SideLog.ts"
import { commandArguments } from "../Built.ts"
import { either } from "../Long.ts"
import { type Program, programArguments } from "../Programs.ts"

/** What the checker judges. */
export interface Evidence {
  readonly plan: Plan
  /** The database after the last process has closed it. */
  readonly database: string
  readonly lines: ReadonlyArray<Line>
  /** All acknowledgements: an item may have one in each life. */
  readonly acks: ReadonlyArray<Ack>
  /** Copies of the database, each made after a death and before the next life. */
  readonly snapshots: ReadonlyArray<Snapshot>
  readonly kills: number
  /** Kills that happened as the plan says. */
  readonly killsAsPlanned: number
  /** Why the last process was killed before it was done; `undefined` if it finished. */
  readonly unfinished: string | undefined
}

interface Snapshot {
  readonly database: string
  /** Lines of the side log at that time. */
  readonly lines: number
  /** Acknowledgements at that time. */
  readonly acks: number
}

/** Whatever a process does takes less time, unless it is stuck. In milliseconds. */
const PATIENCE = 60_000

/** A process has not reached the expected state. */
class TimedOut extends Error {}

/** Arguments for a program that does not take its options as JSON. */
export class Arguments {
  readonly all: ReadonlyArray<string>

  constructor(...all: ReadonlyArray<string>) {
    this.all = all
  }
}

export interface Setting {
  readonly flags?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
}

/** A process that a test starts and kills, and whose printed lines the test reads. */
export class Life {
  readonly child: ChildProcess
  readonly said: Array<string> = []
  readonly ended: Promise<unknown>
  readonly #listeners: Array<() => void> = []
  #hasEnded = false
  #errors = ""

  /** `setting` has further flags and variables for Node.js. */
  constructor(program: Program | "ironflow", options: unknown, cache: string, setting: Setting = {}) {
    this.child = spawn(
      process.execPath,
      [
        ...(setting.flags ?? []),
        ...(program === "ironflow" ? commandArguments() : programArguments(program)),
        ...(options instanceof Arguments ? options.all : [JSON.stringify(options)])
      ],
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, NODE_COMPILE_CACHE: cache, ...setting.env }
      }
    )
    this.child.stderr!.on("data", (chunk) => (this.#errors += String(chunk)))
    createInterface({ input: this.child.stdout! }).on("line", (line) => {
      this.said.push(line)
      this.#wake()
    })
    this.ended = once(this.child, "close").then(() => {
      this.#hasEnded = true
      this.#wake()
    })
  }

  /** Waits until it has printed a line that begins with `line` (`true`), or has ended without one (`false`). */
  async says(line: string, patienceMs = PATIENCE): Promise<boolean> {
    const timeout = AbortSignal.timeout(patienceMs)
    const isSaid = (): boolean => this.said.some((said) => said.startsWith(line))
    while (!this.#hasEnded && !isSaid()) {
      await new Promise<void>((resolve, reject) => {
        this.#listeners.push(resolve)
        timeout.addEventListener("abort", () =>
          reject(new TimedOut(this.#describe(`has not said "${line}"`)))
        )
      })
    }
    return isSaid()
  }

  /** Waits for its end. Throws unless it ended as expected and wrote nothing to stderr. */
  async ends(signal: NodeJS.Signals | null, code: number | null): Promise<void> {
    await this.ended
    if (this.child.signalCode !== signal || this.child.exitCode !== code || this.#errors !== "") {
      throw new Error(this.#describe(`should have ended with ${signal ?? `code ${code}`}`))
    }
  }

  /** What it has written to stderr. */
  get errors(): string {
    return this.#errors
  }

  get acks(): ReadonlyArray<Ack> {
    return this.said.flatMap((line) => (line.startsWith("ack ") ? [JSON.parse(line.slice(4)) as Ack] : []))
  }

  #describe(complaint: string): string {
    const { exitCode, pid, signalCode } = this.child
    return `Process ${pid} ${complaint}; it ended with ${signalCode ?? exitCode}, and said: ${this.said.slice(-5).join(" | ")}\n${this.#errors}`
  }

  #wake(): void {
    for (const listener of this.#listeners.splice(0)) listener()
  }
}

/**
 * The process of an engine whose worker is another process. The test kills and freezes it too, and starts it again on
 * the same port.
 */
export class EngineProcess {
  readonly #database: string
  readonly #cache: string
  readonly #port: number
  #life: Life | undefined

  constructor(database: string, port: number, cache: string) {
    this.#database = database
    this.#port = port
    this.#cache = cache
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  async start(): Promise<void> {
    const life = new Life("durability/engine.ts", { database: this.#database, port: this.#port }, this.#cache)
    this.#life = life
    if (!(await life.says("ready"))) throw new Error("The engine of the shop has not started")
  }

  async kill(): Promise<void> {
    const life = this.#life
    this.#life = undefined
    if (life === undefined) return
    life.child.kill("SIGKILL")
    await life.ends("SIGKILL", null)
  }

  async close(): Promise<void> {
    const life = this.#life
    this.#life = undefined
    life?.child.kill("SIGTERM")
    await life?.ends(null, 0)
  }

  /** Kills or freezes it once, or one to three times in a long run, or until the returned value is disposed. */
  disturb(dice: Dice): AsyncDisposable {
    let isOver = false
    const disturbing = (async () => {
      for (let strikes = dice.between(1, either(1, 3)); strikes > 0; strikes--) {
        await delay(dice.between(100, 900))
        if (isOver) return
        if (dice.next() < 0.6) {
          await this.kill()
          await this.start()
        } else {
          this.#life?.child.kill("SIGSTOP")
          await delay(dice.between(20, 300))
          this.#life?.child.kill("SIGCONT")
        }
      }
    })()
    return {
      [Symbol.asyncDispose]: async () => {
        isOver = true
        await disturbing
      }
    }
  }
}

/** A free port. */
export const freePort = async (): Promise<number> => {
  const server = net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  // a server that listens on a TCP port has such an address
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, "close")
  return port
}

/**
 * Like {@link runPlan}, with the worker in its own process, connected over `transport`, and an engine that is killed
 * too.
 */
export const runRemotePlan = async (
  plan: Plan,
  transport: Remote["transport"],
  folder: string,
  cache: string
): Promise<Evidence> => {
  const engine = new EngineProcess(path.join(folder, "shop.db"), await freePort(), cache)
  await engine.start()
  try {
    return await runPlan(plan, folder, cache, { engine, transport })
  } finally {
    await engine.kill()
  }
}

/**
 * Runs the plan in `folder`, an empty directory; `cache` is a folder for compiled code. Without `remote`, each process of
 * the shop has its own engine.
 */
export const runPlan = async (
  plan: Plan,
  folder: string,
  cache: string,
  remote?: { readonly engine: EngineProcess; readonly transport: Remote["transport"] }
): Promise<Evidence> => {
  const database = path.join(folder, "shop.db")
  const sideLog = path.join(folder, "side.log")
  const dice = makeDice(~plan.seed)
  const acks: Array<Ack> = []
  const snapshots: Array<Snapshot> = []
  let killsAsPlanned = 0

  const begin = (life: number, fate: Fate | undefined, log = sideLog): Life => {
    const done = new Set(acks.map(({ key }) => key))
    const share = Math.ceil((plan.items.length * (life + 1)) / (plan.fates.length + 1))
    return new Life(
      "durability/app.ts",
      {
        ...(remote === undefined
          ? {}
          : { remote: { serverUrl: remote.engine.url, transport: remote.transport } }),
        life,
        database,
        sideLog: log,
        // some acknowledged items are requested again
        items: plan.items.slice(0, share).filter(({ key }) => !done.has(key) || dice.next() < 0.3),
        runIds: Object.fromEntries(acks.flatMap((ack) => (ack.op === "emit" ? [[ack.key, ack.runIds]] : []))),
        fate
      } satisfies LifeOptions,
      cache
    )
  }

  let unfinished: string | undefined
  /** Waits for a process. Kills one that is stuck, since its evidence says more than a timeout. */
  const patiently = async (shop: Life, wait: () => Promise<void>): Promise<void> => {
    try {
      await wait()
    } catch (error) {
      if (!(error instanceof TimedOut)) throw error
      unfinished = error.message
      shop.child.kill("SIGKILL")
      await shop.ends("SIGKILL", null)
    } finally {
      shop.child.kill("SIGKILL")
      acks.push(...shop.acks)
    }
  }

  for (const [life, fate] of plan.fates.entries()) {
    const shop = begin(life, fate)
    await patiently(shop, async () => {
      const rival =
        remote === undefined ? () => begin(life, undefined, path.join(folder, "rival.log")) : undefined
      await using _ = remote?.engine.disturb(dice)
      if (await endAsPlanned(shop, fate, rival)) killsAsPlanned++
      await shop.ends("SIGKILL", null)
    })
    await remote?.engine.kill()
    if (unfinished !== undefined) break
    const copy = path.join(folder, `after-${life}.db`)
    if (copyDatabase(database, copy)) {
      snapshots.push({ database: copy, lines: readSideLog(sideLog).length, acks: acks.length })
    }
    await remote?.engine.start()
  }

  if (unfinished === undefined) {
    const last = begin(plan.fates.length, undefined)
    await patiently(last, async () => {
      await last.says("done")
      await last.ends(null, 0)
      await remote?.engine.close()
    })
  }
  return {
    plan,
    database,
    lines: readSideLog(sideLog),
    acks,
    snapshots,
    kills: plan.fates.length,
    killsAsPlanned,
    unfinished
  }
}

/**
 * Waits until a process ends, and returns whether it ended as planned. A process that has finished its work before it
 * comes to the planned place is killed while idle.
 */
const endAsPlanned = async (
  shop: Life,
  fate: Fate,
  beginRival: (() => Life) | undefined
): Promise<boolean> => {
  const { child } = shop
  switch (fate._tag) {
    case "At":
      if (!(await shop.says("idle"))) return true
      child.kill("SIGKILL")
      return false
    case "After":
      if (fate.from === "ready") await shop.says("ready")
      await delay(fate.ms)
      child.kill("SIGKILL")
      return true
    case "Frozen": {
      await shop.says("ready")
      await delay(fate.ms)
      child.kill("SIGSTOP")
      const rival = beginRival?.()
      if (rival === undefined) {
        await delay(fate.restMs)
      } else {
        if (!(await rival.says("refused STORE_LOCKED")))
          throw new Error("A second process could open the database of a frozen one")
        await rival.ends(null, 3)
      }
      child.kill("SIGCONT")
      await delay(fate.restMs)
      child.kill("SIGKILL")
      return true
    }
  }
}

/** Copies a database that no process has open, with its write-ahead log. Returns `false` when there is none yet. */
export const copyDatabase = (from: string, to: string): boolean => {
  if (!fs.existsSync(from)) return false
  fs.copyFileSync(from, to)
  if (fs.existsSync(`${from}-wal`)) fs.copyFileSync(`${from}-wal`, `${to}-wal`)
  return true
}
