/**
 * Runs a storm: writers write, while the engine and its subscribers are killed and connections are cut at seeded times.
 */
import { once } from "node:events"
import fs from "node:fs"
import net from "node:net"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setTimeout as delay } from "node:timers/promises"
import { EngineProcess, freePort, Life } from "../Chaos.ts"
import { type Dice, makeDice } from "../Plan.ts"
import { type ClientLine, type HostOptions, monotonic } from "./client.ts"
import type { Publication, StormEvidence, Strike } from "./StormChecker.ts"

const HOSTS = [0, 1]
const PATIENCE = 60_000
/** How many publications follow the last strike. */
const LAST_PUBLICATIONS = 60

/** A proxy between the subscribers of a host and the engine, which can cut all of their connections. */
class CuttableProxy {
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()

  constructor(port: number) {
    this.#server = net.createServer((client) => {
      const engine = net.connect(port, "127.0.0.1")
      for (const [socket, other] of [
        [client, engine],
        [engine, client]
      ] as const) {
        this.#sockets.add(socket)
        socket.pipe(other)
        // `close` follows
        socket.on("error", () => undefined)
        socket.on("close", () => {
          this.#sockets.delete(socket)
          other.destroy()
        })
      }
    })
  }

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1")
    await once(this.#server, "listening")
    // a server that listens on a TCP port has such an address
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  close(): void {
    this.#server.close()
    this.cut()
  }
}

/** Writes one thing after the other, each until it is acknowledged. */
const write = async (
  url: string,
  writer: number,
  dice: Dice,
  isOver: () => boolean,
  publications: Array<Publication>
): Promise<void> => {
  const put = async (kind: "event" | "message", name: string, i: number): Promise<void> => {
    const key = `${writer}/${i}`
    const data = { key, even: i % 2 === 0 }
    const requestedAt = monotonic()
    const timeout = AbortSignal.timeout(PATIENCE)
    for (;;) {
      try {
        const response = await fetch(
          kind === "event" ? `${url}/api/v1/events` : `${url}/ironflow.v1.PubSubService/Publish`,
          {
            method: "POST",
            body: JSON.stringify({
              ...(kind === "event" ? { name } : { topic: name }),
              data,
              idempotencyKey: key
            }),
            signal: timeout
          }
        )
        await response.arrayBuffer()
        if (response.ok) break
      } catch (error) {
        // the engine is dead, or dying
        if (timeout.aborted) throw error
      }
      await delay(5)
    }
    publications.push({ key, requestedAt, acknowledgedAt: monotonic() })
  }
  for (let i = 0; !isOver(); i++) {
    const [kind, name] = dice.pick([
      ["event", "order.made"],
      ["event", "order.paid"],
      ["event", "other.thing"],
      ["message", "news.a"],
      ["message", "news.b"],
      ["message", "news.b.c"]
    ] as const)
    await put(kind, name, i)
    if (dice.next() < 0.3) await delay(dice.between(1, 12))
  }
}

const linesOf = (log: string): ReadonlyArray<ClientLine> =>
  fs.existsSync(log)
    ? fs
        .readFileSync(log, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as ClientLine)
    : []

/** Waits until the groups have finished everything and the logs no longer grow. */
const untilCalm = async (database: string, logs: ReadonlyArray<string>): Promise<boolean> => {
  using db = new DatabaseSync(database, { readOnly: true })
  const open = db.prepare(
    `SELECT (SELECT count(*) FROM deliveries) +
            (SELECT count(*) FROM consumer_groups g
             WHERE cursor < (SELECT max(position) FROM events WHERE kind = g.kind AND name NOT LIKE 'other.%')) AS open`
  )
  const written = () => logs.reduce((sum, log) => sum + fs.statSync(log).size, 0)
  const until = monotonic() + PATIENCE / 2
  for (let before = -1; monotonic() < until;) {
    const now = written()
    if (now === before && Number(open.get()?.open) === 0) return true
    before = now
    await delay(250)
  }
  return false
}

/** Runs a storm in `folder`, an empty directory; `cache` is a folder for compiled code. */
export const runStorm = async (
  seed: number,
  strikes: number,
  folder: string,
  cache: string
): Promise<StormEvidence & { readonly isCalm: boolean }> => {
  const dice = makeDice(seed)
  const database = path.join(folder, "storm.db")
  const port = await freePort()
  const engine = new EngineProcess(database, port, cache)
  const strikeRecords: Array<Strike> = []
  const publications: Array<Publication> = []
  const logs = HOSTS.map((host) => path.join(folder, `host-${host}.log`))
  const proxies = HOSTS.map(() => new CuttableProxy(port))
  const lives: Array<Life> = []
  let isOver = false
  try {
    await engine.start()
    const urls = await Promise.all(proxies.map((proxy) => proxy.listen()))
    const begin = (host: number): Life =>
      (lives[host] = new Life(
        "durability/subscriptions/client.ts",
        {
          host,
          serverUrl: urls[host]!,
          log: logs[host]!,
          seed: dice.between(1, 1e6)
        } satisfies HostOptions,
        cache
      ))
    const strike = async (f: () => Promise<void> | void, host?: number): Promise<void> => {
      const at = monotonic()
      await f()
      strikeRecords.push({ at, until: monotonic(), ...(host === undefined ? {} : { host }) })
    }
    const kill = (host: number): Promise<void> =>
      strike(async () => {
        lives[host]!.child.kill("SIGKILL")
        await lives[host]!.ends("SIGKILL", null)
      }, host)

    for (const host of HOSTS) begin(host)
    for (const life of lives) await life.says("ready")
    const writing = [0, 1, 2].map((writer) =>
      write(`http://127.0.0.1:${port}`, writer, makeDice(seed * 10 + writer), () => isOver, publications)
    )
    const written = Promise.all(writing)
    for (let n = 0; n < strikes; n++) {
      const due = publications.length + dice.between(0, 40)
      while (publications.length < due) await delay(2)
      const kind = dice.next()
      const host = dice.pick(HOSTS)
      if (kind < 0.25) {
        await strike(() => engine.kill())
        await delay(dice.pick([0, 0, 100]))
        await engine.start()
      } else if (kind < 0.5) {
        await kill(host)
        begin(host)
      } else if (kind < 0.8) {
        for (let cuts = dice.between(3, 12); cuts > 0; cuts--) {
          const one = dice.pick(HOSTS)
          await strike(() => proxies[one]!.cut(), one)
          await delay(dice.between(0, 30))
        }
      } else {
        // both at once, so that the subscribers start while the engine does
        await strike(() => engine.kill())
        await kill(host)
        begin(host)
        await engine.start()
      }
    }
    for (const life of lives) await life.says("ready")
    // every subscriber has something left to receive
    const enough = publications.length + LAST_PUBLICATIONS
    while (publications.length < enough) await delay(10)
    isOver = true
    await written
    const isCalm = await untilCalm(database, logs)
    await Promise.all(HOSTS.map((host) => kill(host)))
    return { database, lines: logs.flatMap(linesOf), publications, strikes: strikeRecords, isCalm }
  } finally {
    isOver = true
    for (const life of lives) life.child.kill("SIGKILL")
    for (const proxy of proxies) proxy.close()
    await engine.close()
  }
}
