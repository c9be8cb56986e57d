/**
 * Runs a storm: starts an engine and two workers, strikes them while runs are inside steps, and collects the evidence.
 */
import { execFileSync, spawn } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as delay } from "node:timers/promises"
import { createClient } from "@ironflow/node"
import { freePort } from "../Chaos.ts"
import { type Ack, Customer } from "../Customer.ts"
import { type Item, makeDice } from "../Plan.ts"
import { type Line, monotonic, readSideLog } from "../SideLog.ts"
import { Actor, type ProcessRecord } from "./Actor.ts"
import { isPush, type Transport } from "./Cells.ts"
import type { EngineOptions } from "./engine.ts"
import { hasWire, type Lasting, longOrders, takeoverMs, type StormPlan, type Strike } from "./Plan.ts"
import { type Mode, Wire } from "./Wire.ts"
import type { WorkerOptions } from "./worker.ts"

/** A strike that has happened. Times are of the monotonic clock. */
export interface Struck {
  readonly strike: Strike
  readonly at: number
  readonly until: number
  /** The process that was struck, by its name in the side log. */
  readonly target: string
  /** Whether bodies were running there. */
  readonly hit: boolean
}

export interface StormEvidence {
  readonly plan: StormPlan
  /** Every request, bells included. */
  readonly items: ReadonlyArray<Item>
  /** The database after all processes have ended. */
  readonly database: string
  readonly lines: ReadonlyArray<Line>
  readonly acks: ReadonlyArray<Ack>
  readonly strikes: ReadonlyArray<Struck>
  readonly processes: ReadonlyArray<ProcessRecord>
  /** The errors of requests that failed. */
  readonly refusals: ReadonlyArray<string>
  /** The milliseconds from the last strike until all runs had ended; `undefined` if some have not ended. */
  readonly settledAfter: number | undefined
  /** Runs that have not ended, the first five with the engine's explanation. */
  readonly waiting: ReadonlyArray<string>
  /** Workers that have not answered their bell after the storm. */
  readonly deaf: ReadonlyArray<string>
  /** `ironflow_runs_stuck` after the storm; `undefined` when the engine did not answer. */
  readonly stuckGauge: number | undefined
  /** Leases that remained when all runs had ended. */
  readonly leases: ReadonlyArray<string>
}

export interface StormSettings {
  /** An empty directory. */
  readonly folder: string
  /** A folder for compiled code. */
  readonly cache: string
  /** How soon after the storm all runs must have ended, milliseconds. */
  readonly settleMs: number
}

/** How soon after the storm each worker must answer its bell, milliseconds. */
const BELL_MS = 10_000

/** The longest term of a revoked lease, which a push endpoint has, and a second. */
const REVOKED_MS = 11_000

/** Waits for a condition; returns whether it became true in time. */
const until = async (condition: () => boolean, ms: number): Promise<boolean> => {
  const deadline = monotonic() + ms
  while (!condition()) {
    if (monotonic() > deadline) return false
    await delay(20)
  }
  return true
}

export const runStorm = async (plan: StormPlan, settings: StormSettings): Promise<StormEvidence> => {
  await using storm = await Storm.begin(plan, settings)
  return await storm.run()
}

/** Each process that runs functions has a bell, see `functions.ts`. */
const bellsOf = (transport: Transport): ReadonlyArray<string> =>
  transport === "memory" ? ["engine"] : ["victim", "survivor"]

class Storm {
  readonly #plan: StormPlan
  readonly #settings: StormSettings
  readonly #database: string
  readonly #log: string
  readonly #engine: Actor
  readonly #workers: Readonly<Record<"victim" | "survivor", Actor>> | undefined
  readonly #customer: Customer
  readonly #url: string
  /** Proxies between the victim and the engine: for the victim's requests, or with push the engine's. */
  readonly #wires: ReadonlyArray<Wire>
  readonly #resources: Array<() => void>
  readonly #requestAborter: AbortController
  readonly #items: Array<Item> = []
  readonly #acks: Array<Ack> = []
  readonly #refusals: Array<string> = []
  #requesting: Promise<void> = Promise.resolve()
  readonly #strikes: Array<Struck> = []
  readonly #dice
  /** In push mode: apps that get no new requests. */
  readonly #down: Set<string>

  private constructor(parts: {
    readonly plan: StormPlan
    readonly settings: StormSettings
    readonly database: string
    readonly log: string
    readonly engine: Actor
    readonly workers: Readonly<Record<"victim" | "survivor", Actor>> | undefined
    readonly url: string
    readonly wires: ReadonlyArray<Wire>
    readonly down: Set<string>
    readonly resources: Array<() => void>
  }) {
    this.#plan = parts.plan
    this.#settings = parts.settings
    this.#database = parts.database
    this.#log = parts.log
    this.#engine = parts.engine
    this.#workers = parts.workers
    this.#url = parts.url
    this.#wires = parts.wires
    this.#down = parts.down
    this.#resources = parts.resources
    this.#requestAborter = new AbortController()
    this.#customer = new Customer({
      client: createClient({ serverUrl: parts.url, timeout: 5000 }),
      patient: true,
      signal: this.#requestAborter.signal
    })
    this.#dice = makeDice(~parts.plan.seed)
    fs.writeFileSync(this.#clock, String(parts.plan.shift))
  }

  /** Starts all processes. */
  static async begin(plan: StormPlan, settings: StormSettings): Promise<Storm> {
    const { leaseMs, transport } = plan
    const { cache, folder } = settings
    const database = path.join(folder, "shop.db")
    const log = path.join(folder, "side.log")
    const resources: Array<() => void> = []
    let lives = 0
    const nextLife = () => lives++
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const bells = bellsOf(transport)
    const embedded = transport === "memory" ? { sideLog: pipeInto(log, resources), bells } : undefined
    const engine = new Actor(
      "engine",
      "durability/matrix/engine.ts",
      (by, life) => ({ by, life, database, port, leaseMs, memory: embedded }) satisfies EngineOptions,
      nextLife,
      cache
    )
    resources.push(() => void engine.kill())
    const wires: Array<Wire> = []
    const down = new Set<string>()
    const open = async (target: () => number | undefined): Promise<Wire> => {
      const wire = new Wire(target)
      resources.push(() => wire.close())
      await wire.listen()
      return wire
    }
    const apps = { victim: await freePort(), survivor: await freePort() }
    let reports = url
    if (transport !== "memory" && hasWire(plan)) {
      const wire = await open(() => port)
      wires.push(wire)
      reports = wire.url
    }
    const worker = (name: "victim" | "survivor", serverUrl: string): Actor => {
      if (transport === "memory") throw new Error("In one process there are no workers of their own")
      const ownBells = isPush(transport) ? bells : [name]
      const actor = new Actor(
        name,
        "durability/matrix/worker.ts",
        (by, life) =>
          ({
            by,
            life,
            sideLog: log,
            bells: ownBells,
            transport,
            serverUrl,
            port: apps[name],
            leaseMs
          }) satisfies WorkerOptions,
        nextLife,
        cache
      )
      resources.push(() => void actor.kill())
      return actor
    }
    const workers =
      transport === "memory"
        ? undefined
        : { victim: worker("victim", reports), survivor: worker("survivor", url) }
    const storm = new Storm({
      plan,
      settings,
      database,
      log,
      engine,
      workers,
      url,
      wires,
      down,
      resources
    })
    const starting = [storm.#startEngine(), ...Object.values(workers ?? {}).map((worker) => worker.start())]
    const timer = setTimeout(() => storm.#requestAborter.abort(), settings.settleMs)
    try {
      // a worker retries until its engine listens
      await Promise.all(starting)
      if (isPush(transport)) {
        const victim = await open(() => apps.victim)
        wires.push(victim)
        // a balancer, which gives new requests to the available apps in turn
        let turn = 0
        const balancer = await open(() => {
          const targets = [
            ["victim", victim.port],
            ["survivor", apps.survivor]
          ] as const
          const available = targets.filter(([name]) => !down.has(name))
          return available[turn++ % available.length]?.[1]
        })
        await storm.#customer.persist(() =>
          createClient({ serverUrl: url }).pushEndpoints.register(`${balancer.url}/api/ironflow`)
        )
      }
    } catch (error) {
      await storm[Symbol.asyncDispose]()
      await Promise.allSettled(starting)
      throw error
    } finally {
      clearTimeout(timer)
    }
    return storm
  }

  async run(): Promise<StormEvidence> {
    const { shares, strikes } = this.#plan
    for (const [nth, strike] of strikes.entries()) {
      this.#requestSoon(shares[nth] ?? [])
      await this.#strike(strike, nth)
    }
    this.#requestSoon(shares.at(-1) ?? [])
    const calmAt = monotonic()
    const { settleMs } = this.#settings
    const giveUp = setTimeout(() => this.#requestAborter.abort(), settleMs)
    await this.#requesting
    clearTimeout(giveUp)
    const isSettled = await until(() => this.#unfinished().length === 0, settleMs - (monotonic() - calmAt))
    const settledAfter = isSettled ? monotonic() - calmAt : undefined
    const deaf = await this.#ringBells()
    const waiting = isSettled ? [] : await this.#explain()
    const stuckGauge = await this.#readGauge()
    // a lease that a cancellation has revoked ends when its holder is done, or with its term
    await until(
      () =>
        this.#query("SELECT id AS what FROM runs WHERE lease LIKE '~%' AND ended_at IS NOT NULL").length ===
        0,
      REVOKED_MS
    )
    const leases = this.#query(
      "SELECT id AS what FROM runs WHERE lease IS NOT NULL AND ended_at IS NULL"
    ).concat(
      this.#query(
        "SELECT id || ', which has ended' AS what FROM runs WHERE lease IS NOT NULL AND ended_at IS NOT NULL"
      )
    )
    await Promise.all(Object.values(this.#workers ?? {}).map((worker) => worker.stop()))
    await this.#engine.stop()
    return {
      plan: this.#plan,
      items: this.#items,
      database: this.#database,
      lines: readSideLog(this.#log),
      acks: this.#acks,
      strikes: this.#strikes,
      processes: [this.#engine, ...Object.values(this.#workers ?? {})].flatMap(({ records }) => records),
      refusals: this.#refusals,
      settledAfter,
      waiting,
      deaf,
      stuckGauge,
      leases
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#requestAborter.abort()
    for (const close of this.#resources) close()
    await Promise.all([this.#engine, ...Object.values(this.#workers ?? {})].map((actor) => actor.kill()))
  }

  #startEngine(): Promise<void> {
    if (!this.#plan.strikes.some(({ fault }) => fault === "clock")) return this.#engine.start()
    return this.#engine.start({
      flags: [`--import=${new URL("clock.ts", import.meta.url).href}`],
      env: { IRONFLOW_TEST_CLOCK: this.#clock }
    })
  }

  /** The file with the offset of the engine's clock. */
  get #clock(): string {
    return path.join(this.#settings.folder, "clock")
  }

  /** Requests items once all earlier ones have been requested. */
  #requestSoon(items: ReadonlyArray<Item>): void {
    this.#items.push(...items)
    this.#requesting = this.#requesting
      .then(() => this.#request(items))
      .catch((error: unknown) => void this.#refusals.push(String(error)))
  }

  async #request(items: ReadonlyArray<Item>): Promise<void> {
    await this.#customer.performAll(items, (ack) => this.#acks.push(ack))
  }

  get #victim(): Actor {
    if (this.#workers === undefined) throw new Error("In one process there is no victim")
    return this.#workers.victim
  }

  /** Bodies that now run in the given processes, by their tokens. */
  #runningBodies(processNames: ReadonlyArray<string>): ReadonlyMap<string, Extract<Line, { t: "begin" }>> {
    const open = new Map<string, Extract<Line, { t: "begin" }>>()
    for (const line of readSideLog(this.#log)) {
      if (line.t === "begin" && line.by !== undefined && processNames.includes(line.by))
        open.set(line.token, line)
      else if (line.t === "end" || line.t === "fail" || line.t === "abort") open.delete(line.token)
    }
    return open
  }

  async #strike(strike: Strike, nth: number): Promise<void> {
    const isAtEngine =
      strike.fault.startsWith("engine") || strike.fault === "disk-full" || strike.fault === "clock"
    const actor = isAtEngine || this.#workers === undefined ? this.#engine : this.#victim
    const targets = isAtEngine ? [this.#engine, ...Object.values(this.#workers ?? {})] : [actor]
    const running = () => this.#runningBodies(targets.map(({ record }) => record.by))
    await until(() => running().size >= 4, 3000)
    // another process may have taken all runs
    for (let attempts = 0; attempts < 5 && running().size === 0; attempts++) {
      this.#requestSoon(longOrders(this.#dice, `${nth}-${attempts}`))
      await until(() => running().size > 0, 2000)
    }
    // strike at any moment between two lines
    await delay(this.#dice.between(0, 20))
    const target = actor.record.by
    const held = new Set(Array.from(running().values(), ({ run }) => run))
    const at = monotonic()
    await this.#carryOut(strike, () => this.#untilTakenOver(target, held, at))
    this.#strikes.push({ strike, at, until: monotonic(), target, hit: held.size > 0 })
  }

  /** Waits until the runs that a process held have continued elsewhere, or should have. */
  async #untilTakenOver(by: string, held: ReadonlySet<string>, since: number): Promise<void> {
    const deadline = since + Math.max(takeoverMs(this.#plan), 6000) + 1000
    const missing = new Set(held)
    await until(() => {
      for (const line of readSideLog(this.#log)) {
        if (line.t === "begin" && line.by !== by && line.mono > since) missing.delete(line.run)
      }
      return missing.size === 0
    }, deadline - monotonic())
  }

  async #carryOut(strike: Strike, takenOver: () => Promise<void>): Promise<void> {
    const waitFor = (lasting: Lasting) => (lasting === "until takeover" ? takenOver() : delay(lasting))
    switch (strike.fault) {
      case "engine-sigterm":
        await this.#engine.stop()
        return this.#startEngine()
      case "engine-sigkill":
        await this.#engine.kill()
        return this.#startEngine()
      case "engine-freeze":
        this.#engine.freeze()
        await delay(strike.ms)
        return this.#engine.thaw()
      case "worker-sigkill":
        this.#down.add("victim")
        await this.#victim.kill()
        await takenOver()
        await this.#victim.start()
        this.#down.delete("victim")
        return
      case "worker-freeze":
        this.#down.add("victim")
        this.#victim.freeze()
        await waitFor(strike.lasting)
        this.#victim.thaw()
        this.#down.delete("victim")
        return
      case "cut":
        return this.#disturb({ _tag: "cut" }, () => waitFor(strike.lasting))
      case "half-open":
        return this.#disturb(
          { _tag: "deaf", towards: strike.deaf },
          () => waitFor(strike.lasting),
          strike.heals
        )
      case "garbage":
        return this.#disturb({ _tag: "garbage", kind: strike.kind }, () => waitFor(strike.lasting))
      case "delay":
        return this.#disturb({ _tag: "slow", ms: strike.each }, () => delay(strike.ms), true)
      case "flip":
        return this.#disturb({ _tag: "flip", oneIn: strike.oneIn, dice: this.#dice }, () => delay(strike.ms))
      case "disk-full":
        await this.#engine.setFull(true)
        await delay(strike.ms)
        if (!strike.isKilled) return this.#engine.setFull(false)
        await this.#engine.kill()
        return this.#startEngine()
      case "clock":
        if (!strike.isKilled) {
          fs.writeFileSync(this.#clock, String(strike.shift))
          return this.#engine.signal("SIGUSR2")
        }
        await this.#engine.kill()
        // a killed worker cannot renew its leases
        await this.#workers?.victim.kill()
        fs.writeFileSync(this.#clock, String(strike.shift))
        await this.#startEngine()
        return this.#workers?.victim.start()
    }
  }

  async #disturb(mode: Mode, wait: () => Promise<void>, heals = false): Promise<void> {
    if (mode._tag !== "slow" && mode._tag !== "flip") this.#down.add("victim")
    for (const wire of this.#wires) wire.set(mode)
    await wait()
    for (const wire of this.#wires) wire.set({ _tag: "passing" }, heals)
    this.#down.delete("victim")
  }

  #query(sql: string): ReadonlyArray<string> {
    using db = new DatabaseSync(this.#database, { readOnly: true })
    return db
      .prepare(sql)
      .all()
      .map(({ what }) => String(what))
  }

  #unfinished(): ReadonlyArray<string> {
    return this.#query("SELECT id AS what FROM runs WHERE ended_at IS NULL")
  }

  /** Rings each bell; returns those that are not answered. */
  async #ringBells(): Promise<ReadonlyArray<string>> {
    const deaf: Array<string> = []
    for (const bell of bellsOf(this.#plan.transport)) {
      const item: Item = { op: "emit", key: `bell/${bell}`, name: `bell.${bell}`, data: {} }
      if (isPush(this.#plan.transport)) this.#down.add(bell === "victim" ? "survivor" : "victim")
      const timer = setTimeout(() => this.#requestAborter.abort(), BELL_MS)
      // a bell whose event cannot be emitted counts as not answered
      this.#items.push(item)
      await this.#request([item]).catch(() => undefined)
      clearTimeout(timer)
      const answered = () =>
        readSideLog(this.#log).some((line) => {
          return line.t === "begin" && line.fn === `answer-${bell}` && line.by?.startsWith(bell) === true
        })
      if (!(await until(answered, BELL_MS))) deaf.push(bell)
      this.#down.clear()
    }
    // the answers are runs, which have to end too
    await until(
      () =>
        this.#query(
          "SELECT r.id AS what FROM runs r JOIN functions f ON f.key = r.function WHERE f.id LIKE 'answer-%' AND r.ended_at IS NULL"
        ).length === 0,
      deaf.length === 0 ? BELL_MS : 0
    )
    return deaf
  }

  async #explain(): Promise<ReadonlyArray<string>> {
    const client = createClient({ serverUrl: this.#url, timeout: 3000 })
    const ids = this.#unfinished()
    const explanations = await Promise.all(
      ids.slice(0, 5).map((id) =>
        client.explain(id).then(
          ({ code }) => `${id} (${code})`,
          (error: unknown) => `${id} (${String(error)})`
        )
      )
    )
    return [...explanations, ...ids.slice(5)]
  }

  async #readGauge(): Promise<number | undefined> {
    try {
      const response = await fetch(`${this.#url}/metrics`, { signal: AbortSignal.timeout(5000) })
      const value = /^ironflow_runs_stuck (\d+)$/m.exec(await response.text())?.[1]
      return value === undefined ? undefined : Number(value)
    } catch {
      // the judge complains of an engine that does not answer
      return undefined
    }
  }
}

/**
 * A pipe whose other end appends to `log`, so that a process can write even when its files cannot grow. What it wrote
 * before a kill arrives.
 */
const pipeInto = (log: string, resources: Array<() => void>): string => {
  const pipe = `${log}.pipe`
  execFileSync("mkfifo", [pipe])
  // kept open, so that the reader does not end with a writer
  const fd = fs.openSync(pipe, "r+")
  const reader = spawn("cat", [pipe], { stdio: ["ignore", fs.openSync(log, "a"), "inherit"] })
  resources.push(() => {
    fs.closeSync(fd)
    reader.kill()
  })
  return pipe
}
