/** Three engines on one Postgres, with workers in them and beside them: they are killed and frozen, and what came of it. */
import fs from "node:fs"
import path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { createClient } from "@ironflow/node"
import { runSql } from "../../postgres/Schemas.ts"
import { sharedUrl } from "../../postgres/Server.ts"
import { type Evidence, freePort } from "../Chaos.ts"
import { type Ack, Customer } from "../Customer.ts"
import { Actor } from "../matrix/Actor.ts"
import { longOrders } from "../matrix/Plan.ts"
import type { WorkerOptions } from "../matrix/worker.ts"
import { type Item, makeDice, makeItems } from "../Plan.ts"
import { monotonic, readSideLog } from "../SideLog.ts"
import type { NodeOptions } from "./node.ts"
import { copyTables } from "./Tables.ts"

/** What happens to whom: a node is killed and comes back, or stands still for so long. */
export type Strike =
  | { readonly at: "node" | "worker"; readonly which: number; readonly fault: "kill" }
  | { readonly at: "node" | "worker"; readonly which: number; readonly fault: "freeze"; readonly ms: number }

export interface NodeStormPlan {
  readonly seed: number
  /** Things that are asked for before each strike, and after the last one. */
  readonly size: number
  readonly strikes: ReadonlyArray<Strike>
  readonly leaseMs: number
}

export interface NodeStormEvidence {
  readonly evidence: Evidence
  /** How long after the storm all runs had ended, milliseconds; `undefined` when they have not. */
  readonly settledAfter: number | undefined
  /** What processes did that nobody has asked of them. */
  readonly faults: ReadonlyArray<string>
  /** Strikes that found bodies running. */
  readonly hits: number
}

const transports = ["channel", "rpc", "connect"] as const

export const runNodeStorm = async (
  plan: NodeStormPlan,
  folder: string,
  cache: string,
  settleMs: number
): Promise<NodeStormEvidence> => {
  const { leaseMs, seed, size, strikes } = plan
  const dice = makeDice(seed)
  const url = await sharedUrl()
  const schema = `storm_${process.pid}_${seed}`
  const sideLog = path.join(folder, "side.log")
  let lives = 0
  const ports = [await freePort(), await freePort(), await freePort()]
  const urlOf = (which: number): string => `http://127.0.0.1:${ports[which]}`
  const nodes = ports.map(
    (port, which) =>
      new Actor(
        `node-${which}`,
        "nodes/node.ts",
        (by, life) => ({ by, life, url, schema, port, leaseMs, sideLog, bells: [] }) satisfies NodeOptions,
        () => lives++,
        cache
      )
  )
  const workers = transports.map(
    (transport, which) =>
      new Actor(
        `worker-${which}`,
        "matrix/worker.ts",
        (by, life) =>
          ({
            by,
            life,
            sideLog,
            bells: [],
            transport,
            serverUrl: urlOf(which),
            port: 0,
            leaseMs
          }) satisfies WorkerOptions,
        () => lives++,
        cache
      )
  )
  const over = new AbortController()
  const acks: Array<Ack> = []
  const clients = ports.map((_, which) => createClient({ serverUrl: urlOf(which), timeout: 5000 }))
  let turn = 0
  /** Each call goes to the next node, also one that is made again. */
  const anywhere = new Proxy(clients[0]!, {
    get: (_, name) => Reflect.get(clients[turn++ % clients.length]!, name)
  })
  const customer = new Customer({ client: anywhere, patient: true, signal: over.signal })
  const items: Array<Item> = []
  const shares = makeItems(dice, size * (strikes.length + 1), () => dice.between(20, 400))
  let asking: Promise<void> = Promise.resolve()
  const ask = (some: ReadonlyArray<Item>): void => {
    items.push(...some)
    asking = asking.then(() => customer.performAll(some, (ack) => acks.push(ack)))
  }
  const unfinished = async (): Promise<number> =>
    Number((await runSql(`SELECT count(*) AS n FROM ${schema}.runs WHERE ended_at IS NULL`))[0]?.n)
  /** Whether bodies run in a process now. */
  const isBusy = (by: string): boolean => {
    const open = new Set<string>()
    for (const line of readSideLog(sideLog)) {
      if (line.t === "begin" && line.by === by) open.add(line.token)
      else if (line.t === "end" || line.t === "fail" || line.t === "abort") open.delete(line.token)
    }
    return open.size > 0
  }
  const until = async (condition: () => boolean | Promise<boolean>, ms: number): Promise<boolean> => {
    const late = monotonic() + ms
    while (!(await condition())) {
      if (monotonic() > late) return false
      await delay(50)
    }
    return true
  }

  const everybody = [...nodes, ...workers]
  let hits = 0
  try {
    await Promise.all(nodes.map((node) => node.start()))
    await Promise.all(workers.map((worker) => worker.start()))
    const late = setTimeout(() => over.abort(), 240_000)
    for (const [nth, strike] of strikes.entries()) {
      ask(shares.slice(nth * size, (nth + 1) * size))
      const actor = (strike.at === "node" ? nodes : workers)[strike.which]!
      await until(() => isBusy(actor.record.by), 3000)
      // others may have taken all
      for (let more = 0; more < 5 && !isBusy(actor.record.by); more++) {
        ask(longOrders(dice, `${nth}-${more}`))
        await until(() => isBusy(actor.record.by), 3000)
      }
      await delay(dice.between(0, 20))
      if (isBusy(actor.record.by)) hits++
      if (strike.fault === "kill") {
        await actor.kill()
        await actor.start()
      } else {
        actor.freeze()
        await delay(strike.ms)
        actor.thaw()
      }
    }
    ask(shares.slice(strikes.length * size))
    await asking
    clearTimeout(late)
    const calm = monotonic()
    const isSettled = await until(async () => (await unfinished()) === 0, settleMs)
    const settledAfter = isSettled ? monotonic() - calm : undefined
    await Promise.all(workers.map((worker) => worker.stop()))
    await Promise.all(nodes.map((node) => node.stop()))
    const database = path.join(folder, "shop.db")
    await copyTables(url, schema, database)
    return {
      evidence: {
        plan: { seed, items, fates: [] },
        database,
        lines: readSideLog(sideLog),
        acks,
        snapshots: [],
        kills: strikes.filter(({ fault }) => fault === "kill").length,
        struck: hits,
        unfinished: undefined
      },
      settledAfter,
      faults: everybody.flatMap(({ records }) => records.flatMap(({ faults }) => faults)),
      hits
    }
  } finally {
    over.abort()
    await asking.catch(() => undefined)
    for (const actor of everybody) {
      actor.thaw()
      await actor.kill()
    }
    await runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
    fs.rmSync(path.join(folder, "cache"), { recursive: true, force: true })
  }
}
