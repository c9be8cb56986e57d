/** Runs a storm over three engines on one Postgres, with workers of every transport, and collects the evidence. */
import fs from "node:fs"
import path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { createClient } from "@ironflow/node"
import pg from "pg"
import { OwnServer } from "../../postgres/Server.ts"
import { Arguments, type Evidence, freePort } from "../Chaos.ts"
import { type Ack, Customer } from "../Customer.ts"
import { Actor } from "../matrix/Actor.ts"
import { isPush } from "../matrix/Cells.ts"
import { SIGNING_KEY } from "../matrix/functions.ts"
import { longOrders } from "../matrix/Plan.ts"
import type { Struck as AnyStruck, StormEvidence } from "../matrix/Storm.ts"
import { Wire } from "../matrix/Wire.ts"
import type { WorkerOptions } from "../matrix/worker.ts"
import { type Item, makeDice } from "../Plan.ts"
import { monotonic, SideLogReader } from "../SideLog.ts"
import { Balancer, type Probe } from "./Balancer.ts"
import { SECRET } from "./Logs.ts"
import type { NodeOptions } from "./node.ts"
import { type NodePlan, NODES, type Strike, type Which } from "./Plan.ts"
import { copyTables } from "./Tables.ts"

/** A strike that has happened. Times are of the monotonic clock. */
export interface Struck extends Pick<AnyStruck, "at" | "until" | "hit"> {
  readonly strike: Strike
}

export interface NodeStormEvidence extends Pick<
  StormEvidence,
  "deaf" | "leases" | "processes" | "refusals" | "settledAfter" | "stuckGauge" | "waiting"
> {
  readonly plan: NodePlan
  /** For the checker of the shop. */
  readonly shop: Evidence
  readonly strikes: ReadonlyArray<Struck>
  /** The probes of each node. */
  readonly probes: ReadonlyArray<ReadonlyArray<Probe>>
  /** Errors after which a client has repeated a request, by their text. */
  readonly errors: ReadonlyMap<string, { readonly count: number; readonly isFine: boolean }>
  /** When the last request was answered. */
  readonly calmAt: number
}

export interface NodeStormSettings {
  /** An empty directory. */
  readonly folder: string
  /** A folder for compiled code. */
  readonly cache: string
  /** How soon after the storm all runs must have ended, milliseconds. */
  readonly settleMs: number
}

const SCHEMA = "storm"

/** How long after the storm each worker may take to answer its bell, and each node to become healthy, milliseconds. */
const BELL_MS = 20_000
/** The term of a lease of a push endpoint, milliseconds; the others are shorter here. */
const LONGEST_TERM_MS = 30_000

/**
 * How long a process may take to start, milliseconds: several start at once on a busy machine, and Postgres may be
 * down.
 */
const START_MS = 600_000

/** How long after the storm the remaining requests may take, milliseconds. */
const REQUEST_MS = 600_000

const until = async (condition: () => boolean | Promise<boolean>, ms: number): Promise<boolean> => {
  const deadline = monotonic() + ms
  while (!(await condition())) {
    if (monotonic() > deadline) return false
    await delay(ms > 5000 ? 300 : 50)
  }
  return true
}

/** Runs two starts at a time: on a small machine, nine processes that start at once take a minute each. */
const inTwos = async (starts: ReadonlyArray<() => Promise<void>>): Promise<void> => {
  const left = starts.values()
  const lane = async (): Promise<void> => {
    for (const start of left) await start()
  }
  await Promise.all([lane(), lane()])
}

export const runNodeStorm = async (
  plan: NodePlan,
  settings: NodeStormSettings
): Promise<NodeStormEvidence> => {
  const storm = new NodeStorm(plan, settings)
  try {
    await storm.begin()
    return await storm.run()
  } finally {
    await storm.close()
  }
}

class NodeStorm {
  readonly #plan: NodePlan
  readonly #settings: NodeStormSettings
  readonly #dice
  readonly #requestAborter = new AbortController()
  readonly #log: SideLogReader
  readonly #wires: Array<Wire> = []
  readonly #items: Array<Item> = []
  readonly #acks: Array<Ack> = []
  readonly #refusals: Array<string> = []
  readonly #errors = new Map<string, { count: number; readonly isFine: boolean }>()
  readonly #struck: Array<Struck> = []
  #server: OwnServer | undefined
  #balancer: Balancer | undefined
  #customer: Customer | undefined
  #nodes: ReadonlyArray<Actor> = []
  #workers: ReadonlyArray<Actor> = []
  #ports: ReadonlyArray<number> = []
  #requesting: Promise<void> = Promise.resolve()
  #lives = 0
  /** The ports of workers that are apps. */
  #apps: ReadonlyArray<number> = []

  constructor(plan: NodePlan, settings: NodeStormSettings) {
    this.#plan = plan
    this.#settings = settings
    this.#dice = makeDice(~plan.seed)
    this.#log = new SideLogReader(this.#sideLog)
  }

  get #sideLog(): string {
    return path.join(this.#settings.folder, "side.log")
  }

  async begin(): Promise<void> {
    const { isEmbedded, leaseMs, shifts } = this.#plan
    const { cache, folder } = this.#settings
    const server = (this.#server = await OwnServer.start())
    this.#ports = await Promise.all(Array.from({ length: NODES }, freePort))
    for (const shift of shifts) fs.writeFileSync(this.#clock(shifts.indexOf(shift)), String(shift))
    const nextLife = () => this.#lives++
    for (const _ of this.#ports) {
      const wire = new Wire(() => server.port)
      await wire.listen()
      this.#wires.push(wire)
    }
    const databaseUrl = (index: number): string =>
      `postgres://postgres:${SECRET}@127.0.0.1:${this.#wires[index]!.port}/postgres`
    const serve = (port: number, index: number): Actor =>
      new Actor(
        `node-${index}`,
        "ironflow",
        () =>
          new Arguments(
            "serve",
            "--port",
            String(port),
            "--database-url",
            databaseUrl(index),
            "--database-schema",
            SCHEMA,
            "--lease-term",
            `${leaseMs}ms`,
            "--allow-private-endpoints",
            "--no-console",
            "--log-format",
            "json"
          ),
        nextLife,
        cache,
        { ready: "Ironflow listens", logs: true, patienceMs: START_MS }
      )
    const embed = (port: number, index: number): Actor =>
      new Actor(
        `node-${index}`,
        "durability/nodes/node.ts",
        (by, life) =>
          ({
            by,
            life,
            url: databaseUrl(index),
            schema: SCHEMA,
            port,
            leaseMs,
            sideLog: this.#sideLog,
            bells: []
          }) satisfies NodeOptions,
        nextLife,
        cache,
        { patienceMs: START_MS }
      )
    this.#nodes = this.#ports.map(isEmbedded ? embed : serve)
    const balancer = (this.#balancer = await Balancer.start(this.#ports))
    this.#customer = new Customer({
      client: createClient({ serverUrl: balancer.url, timeout: 5000 }),
      patient: true,
      signal: this.#requestAborter.signal,
      onError: (error) => this.#noteError(error)
    })
    this.#apps = await Promise.all(this.#plan.transports.map(freePort))
    this.#workers = this.#plan.transports.map(
      (transport, index) =>
        new Actor(
          `worker-${index}`,
          "durability/matrix/worker.ts",
          (by, life) =>
            ({
              by,
              life,
              sideLog: this.#sideLog,
              bells: isEmbedded ? [] : [`worker-${index}`],
              transport,
              serverUrl: balancer.url,
              port: this.#apps[index]!,
              leaseMs,
              ...(isEmbedded ? {} : { share: isPush(transport) ? "effect" : "promise" })
            }) satisfies WorkerOptions,
          nextLife,
          cache,
          { patienceMs: START_MS }
        )
    )
    await inTwos([
      ...this.#nodes.map((_, index) => () => this.#startNode(index)),
      ...this.#workers.map((worker) => () => worker.start())
    ])
    const timer = setTimeout(() => this.#requestAborter.abort(), START_MS)
    for (const [index, transport] of this.#plan.transports.entries()) {
      if (!isPush(transport)) continue
      await this.#customer.persist(() =>
        createClient({ serverUrl: balancer.url }).pushEndpoints.register(
          `http://127.0.0.1:${this.#apps[index]}/api/ironflow`
        )
      )
    }
    clearTimeout(timer)
    fs.mkdirSync(folder, { recursive: true })
  }

  async run(): Promise<NodeStormEvidence> {
    const { isEmbedded, seed, shares, strikes } = this.#plan
    const { folder, settleMs } = this.#settings
    for (const [nth, strike] of strikes.entries()) {
      this.#requestSoon(shares[nth] ?? [])
      await this.#strike(strike, nth)
    }
    this.#requestSoon(shares.at(-1) ?? [])
    const giveUp = setTimeout(() => this.#requestAborter.abort(), REQUEST_MS)
    await this.#requesting
    clearTimeout(giveUp)
    // on a busy machine the last requests are late, and their runs end late
    const calmAt = monotonic()
    const unfinished = () => this.#query("SELECT id AS what FROM runs WHERE ended_at IS NULL")
    const isSettled = await until(
      async () => (await unfinished()).length === 0,
      settleMs - (monotonic() - calmAt)
    )
    const settledAfter = isSettled ? monotonic() - calmAt : undefined
    const deaf = isEmbedded ? [] : await this.#ringBells()
    const waiting = isSettled ? [] : await this.#explain(await unfinished())
    await until(
      () =>
        this.#ports.every((_, index) => {
          const last = this.#balancer!.probes[index]!.at(-1)
          return last?.ready === "ready" && last.health === "ok"
        }),
      BELL_MS
    )
    const lease = () =>
      this.#query(
        `SELECT id || CASE WHEN ended_at IS NULL THEN '' ELSE ', which has ended' END || ' (lease ' || lease || ' of worker '
           || coalesce(worker, 'nobody') || ' until ' || coalesce(lease_until::text, 'it reports') || ', run changed at ' || updated_at
           || ', seen at ' || round(extract(epoch FROM clock_timestamp()) * 1000) || ')' AS what
           FROM runs WHERE lease IS NOT NULL`
      )
    // a lease that a cancellation has revoked ends when its holder is done, or with its term
    await until(async () => (await lease()).length === 0, LONGEST_TERM_MS + BELL_MS)
    const leases = await lease()
    const stuckGauge = isEmbedded ? 0 : await this.#readGauge()
    const probes = this.#balancer!.probes.map((all) => [...all])
    await Promise.all(this.#workers.map((worker) => worker.stop()))
    await Promise.all(this.#nodes.map((node) => node.stop()))
    const database = path.join(folder, "shop.db")
    await copyTables(this.#server!.url, SCHEMA, database)
    return {
      plan: this.#plan,
      shop: {
        plan: { seed, items: this.#items, fates: [] },
        database,
        lines: this.#log.lines,
        acks: this.#acks,
        snapshots: [],
        kills: strikes.filter(({ fault }) => fault === "kill").length,
        killsAsPlanned: this.#struck.filter(({ hit }) => hit).length,
        unfinished: undefined
      },
      strikes: this.#struck,
      processes: [...this.#nodes, ...this.#workers].flatMap(({ records }) => records),
      refusals: this.#refusals,
      probes,
      errors: this.#errors,
      settledAfter,
      waiting,
      deaf,
      leases,
      stuckGauge,
      calmAt
    }
  }

  async close(): Promise<void> {
    this.#requestAborter.abort()
    await this.#requesting.catch(() => undefined)
    await Promise.all([...this.#nodes, ...this.#workers].map((actor) => actor.kill()))
    this.#balancer?.close()
    for (const wire of this.#wires) wire.close()
    await this.#server?.close()
  }

  #clock(index: number): string {
    return path.join(this.#settings.folder, `clock-${index}`)
  }

  /** Starts a node. Like a supervisor, starts it again if it ends because Postgres is down. */
  async #startNode(index: number): Promise<void> {
    const node = this.#nodes[index]!
    const env = { IRONFLOW_SIGNING_KEY: SIGNING_KEY }
    const hasClock = this.#plan.shifts[index] !== undefined
    for (const deadline = monotonic() + START_MS; ;) {
      try {
        return await node.start(
          hasClock
            ? {
                flags: [`--import=${new URL("../matrix/clock.ts", import.meta.url).href}`],
                env: { ...env, IRONFLOW_TEST_CLOCK: this.#clock(index) }
              }
            : { env }
        )
      } catch (error) {
        await node.kill()
        if (monotonic() > deadline || this.#requestAborter.signal.aborted) throw error
        node.record.faults.length = 0
        await delay(500)
      }
    }
  }

  #noteError(error: unknown): void {
    const { code, message, name, retryable } = Object(error) as Record<string, unknown>
    const isFine =
      (["ConnectionError", "TimeoutError"].includes(String(name)) ||
        (name === "StoreError" && retryable === true) ||
        code === "CLOSING") &&
      !String(message).includes(SECRET)
    const what = `${String(name)} ${String(code)}: ${String(message).slice(0, 200)}`
    const known = this.#errors.get(what)
    if (known === undefined) this.#errors.set(what, { count: 1, isFine })
    else known.count++
  }

  /** Requests items once all earlier ones have been requested. */
  #requestSoon(items: ReadonlyArray<Item>): void {
    this.#items.push(...items)
    this.#requesting = this.#requesting
      .then(() => this.#customer!.performAll(items, (ack) => this.#acks.push(ack)))
      .catch((error: unknown) => void this.#refusals.push(String(error)))
  }

  /** Counts the bodies that now run in the given processes. */
  #countRunning(processNames: ReadonlyArray<string>): number {
    const open = new Set<string>()
    for (const line of this.#log.lines) {
      if (line.t === "begin" && line.by !== undefined && processNames.includes(line.by)) open.add(line.token)
      else if (line.t === "end" || line.t === "fail" || line.t === "abort") open.delete(line.token)
    }
    return open.size
  }

  async #strike(strike: Strike, nth: number): Promise<void> {
    // a strike at an engine or at Postgres affects every process that runs bodies
    const targets =
      "at" in strike && (strike.at === "worker" || this.#plan.isEmbedded)
        ? this.#selected(strike.at === "node" ? this.#nodes : this.#workers, strike.which)
        : [...this.#workers, ...(this.#plan.isEmbedded ? this.#nodes : [])]
    const isBusy = () => this.#countRunning(targets.map(({ record }) => record.by)) > 0
    await until(isBusy, 3000)
    // other processes may have taken all runs
    for (let attempts = 0; attempts < 5 && !isBusy(); attempts++) {
      this.#requestSoon(longOrders(this.#dice, `${nth}-${attempts}`))
      await until(isBusy, 2000)
    }
    await delay(this.#dice.between(0, 20))
    const hit = isBusy()
    const at = monotonic()
    await this.#carryOut(strike)
    this.#struck.push({ strike, at, until: monotonic(), hit })
  }

  #selected<A>(all: ReadonlyArray<A>, which: Which): ReadonlyArray<A> {
    return which === "all" ? all : [all[which]!]
  }

  async #carryOut(strike: Strike): Promise<void> {
    switch (strike.fault) {
      case "kill": {
        const actors = strike.at === "node" ? this.#nodes : this.#workers
        const indexes = this.#selected(
          actors.map((_, index) => index),
          strike.which
        )
        await Promise.all(indexes.map((one) => actors[one]!.kill()))
        return inTwos(
          indexes.map((one) => () => (strike.at === "node" ? this.#startNode(one) : actors[one]!.start()))
        )
      }
      case "freeze": {
        const actors = this.#selected(strike.at === "node" ? this.#nodes : this.#workers, strike.which)
        for (const actor of actors) actor.freeze()
        await delay(strike.ms)
        for (const actor of actors) actor.thaw()
        return
      }
      case "terminate": {
        const end = monotonic() + strike.ms
        while (monotonic() < end) {
          await this.#sql(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name LIKE 'ironflow%' AND random() < 0.3`
          )
          await delay(this.#dice.between(10, 200))
        }
        return
      }
      case "restart":
        await this.#server!.down(strike.ending)
        await delay(strike.ms)
        return this.#server!.up()
      case "cut":
      case "half-open":
      case "lose":
      case "slow": {
        const wires = this.#selected(this.#wires, strike.which)
        for (const wire of wires) {
          if (strike.fault === "cut") wire.set({ _tag: "cut" })
          else if (strike.fault === "half-open") wire.set({ _tag: "deaf", towards: strike.deaf })
          else if (strike.fault === "lose") wire.set({ _tag: "lost" })
          else wire.set({ _tag: "slow", ms: strike.each })
        }
        await delay(strike.ms)
        const heals = strike.fault === "slow" || (strike.fault === "half-open" && strike.heals)
        for (const wire of wires) wire.set({ _tag: "passing" }, heals)
        return
      }
      case "clock":
        fs.writeFileSync(this.#clock(strike.which), String(strike.shift))
        return this.#nodes[strike.which]!.signal("SIGUSR2")
    }
  }

  async #sql(sql: string): Promise<ReadonlyArray<Record<string, unknown>>> {
    const client = new pg.Client({
      connectionString: this.#server!.url,
      options: `-c search_path=${SCHEMA}`,
      connectionTimeoutMillis: 5000
    })
    client.on("error", () => undefined)
    try {
      await client.connect()
      return (await client.query(sql)).rows
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  async #query(sql: string): Promise<ReadonlyArray<string>> {
    return (await this.#sql(sql)).map(({ what }) => String(what))
  }

  /** Rings each bell; returns those that are not answered. */
  async #ringBells(): Promise<ReadonlyArray<string>> {
    const bells = this.#workers.map((_, index) => `worker-${index}`)
    const timer = setTimeout(() => this.#requestAborter.abort(), BELL_MS)
    const items = bells.map((bell): Item => ({
      op: "emit",
      key: `bell/${bell}`,
      name: `bell.${bell}`,
      data: {}
    }))
    // a bell whose event cannot be emitted counts as not answered
    this.#requestSoon(items)
    await this.#requesting
    const deaf = () =>
      bells.filter(
        (bell) => !this.#log.lines.some((line) => line.t === "begin" && line.fn === `answer-${bell}`)
      )
    await until(() => deaf().length === 0, BELL_MS)
    clearTimeout(timer)
    // the answers are runs, which have to end too
    await until(
      async () =>
        (
          await this.#query(
            "SELECT r.id AS what FROM runs r JOIN functions f ON f.key = r.function WHERE f.id LIKE 'answer-%' AND r.ended_at IS NULL"
          )
        ).length === 0,
      deaf().length === 0 ? BELL_MS : 0
    )
    return deaf()
  }

  async #explain(ids: ReadonlyArray<string>): Promise<ReadonlyArray<string>> {
    const client = createClient({ serverUrl: this.#balancer!.url, timeout: 3000 })
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

  /** The largest value of all nodes. */
  async #readGauge(): Promise<number | undefined> {
    const values = await Promise.all(
      this.#ports.map(async (port) => {
        try {
          const response = await fetch(`http://127.0.0.1:${port}/metrics`, {
            signal: AbortSignal.timeout(5000)
          })
          return Number(/^ironflow_runs_stuck (\d+)$/m.exec(await response.text())?.[1])
        } catch {
          return Number.NaN
        }
      })
    )
    const largest = Math.max(...values)
    return Number.isNaN(largest) ? undefined : largest
  }
}
