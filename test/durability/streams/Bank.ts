/** Runs a bank whose processes are killed as planned while clients append and move money, and collects the evidence. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import path from "node:path"
import process from "node:process"
import { createServer } from "node:net"
import { createInterface } from "node:readline"
import { setTimeout as delay } from "node:timers/promises"
import { copyDatabase } from "../Chaos.ts"
import type { BankOptions } from "./app.ts"
import { either } from "../../Long.ts"
import { programArguments } from "../../Programs.ts"

/**
 * The death of a process, `afterMs` after all were ready. With `fate`, a worker dies at a place in a transaction
 * instead.
 */
export interface Death {
  readonly who: "engine" | "worker" | "both"
  readonly afterMs: number
  readonly fate?: BankOptions["fate"]
}

export interface BankPlan {
  readonly seed: number
  /** Whether engine and worker share a process, so that they die together. */
  readonly embedded: boolean
  readonly deaths: ReadonlyArray<Death>
  /**
   * The least number of transfers, and of acknowledged appends of each of four writers. Both continue until the last
   * death.
   */
  readonly transfers: number
  readonly appends: number
}

/** The answer to an append: stored as this version, or a conflict. */
export interface Answer {
  readonly entity: string
  readonly token: string
  readonly expected: number
  readonly status: 200 | 409
  readonly version?: number
  readonly eventId?: string
  readonly position?: number
}

export interface BankEvidence {
  readonly plan: BankPlan
  readonly database: string
  readonly answers: ReadonlyArray<Answer>
  /** Runs that were acknowledged, one for each transfer. */
  readonly transfers: ReadonlyArray<string>
  /** Copies made while the engine was dead, with the number of answers by then. */
  readonly snapshots: ReadonlyArray<{ readonly database: string; readonly answerCount: number }>
}

const accounts = ["acc-0", "acc-1", "acc-2"]

const PATIENCE = 60_000

/** Few enough that the ledger keeps all revisions of an account. */
const MOST_TRANSFERS = 64 * accounts.length

class BankProcess {
  readonly child: ChildProcess
  readonly #closed: Promise<unknown>
  #errors = ""

  constructor(options: BankOptions, cache: string) {
    this.child = spawn(
      process.execPath,
      [...programArguments("durability/streams/app.ts"), JSON.stringify(options)],
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, NODE_COMPILE_CACHE: cache }
      }
    )
    this.child.stderr!.on("data", (chunk) => (this.#errors += String(chunk)))
    this.#closed = once(this.child, "close")
  }

  /**
   * Waits until the process is ready. With `mayDie` it may also be killed before: it starts with the work that its last
   * life left, and may reach the place of its planned death in that work.
   */
  async ready(mayDie: boolean): Promise<void> {
    const firstLine = once(createInterface({ input: this.child.stdout! }), "line")
    const line = await Promise.race([firstLine, this.#closed, delay(PATIENCE, undefined, { ref: false })])
    if (mayDie && this.child.signalCode === "SIGKILL") return
    if (!Array.isArray(line) || line[0] !== "ready") {
      throw new Error(`The bank's process ${this.child.pid} did not get ready:\n${this.#errors}`)
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal)
    await this.#closed
  }

  get ended(): Promise<unknown> {
    return this.#closed
  }
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" && address !== null ? address.port : 0
}

/** Repeats a request until it is answered. A repeated append must get the stored answer of the first. */
const ask = async (url: string, method: string, body: unknown, until: AbortSignal) => {
  for (;;) {
    try {
      const response = await fetch(`${url}/ironflow.v1.${method}`, {
        method: "POST",
        body: JSON.stringify(body),
        signal: until
      })
      const answer: any = await response.json()
      if (response.status < 500) return { status: response.status, body: answer }
    } catch (error) {
      // the engine is dead, or dying
      if (until.aborted) throw error
    }
    await delay(10)
  }
}

/** Appends until `plan.appends` are acknowledged, each at the version that it has just read. */
const write = async (
  url: string,
  writer: number,
  plan: BankPlan,
  answers: Array<Answer>,
  isOver: () => boolean,
  until: AbortSignal
): Promise<void> => {
  let stored = 0
  for (let attempt = 0; stored < plan.appends || !isOver(); attempt++) {
    // slowly enough that something is left to do at the last death
    await delay(either(20, 10))
    const entity = accounts[(writer + stored) % accounts.length]!
    const info = await ask(url, "EntityStreamService/GetStreamInfo", { entity_id: entity }, until)
    const expected = Number(info.body.version ?? 0)
    const token = `w${writer}-${attempt}`
    const { body, status } = await ask(
      url,
      "EntityStreamService/AppendEvent",
      {
        entity_id: entity,
        entity_type: "account",
        event_name: "note.added",
        data: { token },
        expected_version: expected,
        idempotency_key: token
      },
      until
    )
    if (status === 200) {
      stored++
      answers.push({
        entity,
        token,
        expected,
        status,
        version: Number(body.entityVersion),
        eventId: body.eventId,
        position: Number(body.sequence)
      })
    } else if (status === 409) answers.push({ entity, token, expected, status })
    else throw new Error(`An append was answered with ${status}: ${JSON.stringify(body)}`)
  }
}

const requestTransfers = async (
  url: string,
  plan: BankPlan,
  transfers: Array<string>,
  isOver: () => boolean,
  until: AbortSignal
): Promise<void> => {
  for (let i = 0; i < plan.transfers || (!isOver() && i < MOST_TRANSFERS); i++) {
    const data = { from: accounts[i % 3], to: accounts[(i + 1 + (i % 2)) % 3] }
    const { body } = await ask(
      url,
      "IronflowService/Trigger",
      { event: "transfer.requested", data, idempotencyKey: `t-${i}` },
      until
    )
    transfers.push(...body.runIds)
    await delay(50)
  }
}

/** Waits until every run has ended. */
const untilSettled = async (url: string, until: AbortSignal): Promise<void> => {
  for (;;) {
    const { body } = await ask(url, "IronflowService/ListRuns", { limit: 1000 }, until)
    const open = (body.runs ?? []).filter((run: any) => run.endedAt === undefined)
    if (open.length === 0) return
    // each look makes the engine list every run
    await delay(100)
  }
}

/** Runs the plan in `folder`, an empty directory; `cache` is a folder for compiled code. */
export const runBank = async (plan: BankPlan, folder: string, cache: string): Promise<BankEvidence> => {
  const database = path.join(folder, "bank.db")
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const answers: Array<Answer> = []
  const transfers: Array<string> = []
  const snapshots: Array<{ readonly database: string; readonly answerCount: number }> = []
  const until = AbortSignal.timeout(3 * PATIENCE)

  const running = new Map<"engine" | "worker", BankProcess>()
  const begin = async (who: "engine" | "worker", fate?: BankOptions["fate"]): Promise<void> => {
    const role = plan.embedded ? "all" : who
    const bank = new BankProcess({ role, port, database, ...(fate === undefined ? {} : { fate }) }, cache)
    running.set(who, bank)
    await bank.ready(fate !== undefined)
  }
  const kill = async (who: "engine" | "worker"): Promise<void> => {
    await running.get(who)?.end("SIGKILL")
    running.delete(who)
    if (who === "worker") return
    const copy = path.join(folder, `after-${snapshots.length}.db`)
    // nobody answers while the engine is dead, so the copy must have all that was answered
    const count = answers.length
    if (copyDatabase(database, copy)) snapshots.push({ database: copy, answerCount: count })
  }
  const parties = plan.embedded ? (["engine"] as const) : (["engine", "worker"] as const)

  try {
    let isOver = false
    const [first] = plan.deaths
    for (const who of parties) await begin(who, who === parties.at(-1) ? first?.fate : undefined)
    const clients = Promise.all([
      ...[0, 1, 2, 3].map((writer) => write(url, writer, plan, answers, () => isOver, until)),
      requestTransfers(url, plan, transfers, () => isOver, until)
    ])
    clients.catch(() => undefined)
    for (const [i, { afterMs, fate, who }] of plan.deaths.entries()) {
      const dying = plan.embedded ? (["engine"] as const) : who === "both" ? parties : ([who] as const)
      const party = running.get(parties.at(-1)!)
      // a worker that has no work left before its planned death is killed anyway
      if (fate !== undefined) await Promise.race([party?.ended, delay(3000)])
      else await delay(afterMs)
      for (const one of dying) await kill(one)
      for (const one of dying) await begin(one, one === parties.at(-1) ? plan.deaths[i + 1]?.fate : undefined)
    }
    isOver = true
    await clients
    await untilSettled(url, until)
    for (const who of parties.toReversed()) await running.get(who)?.end("SIGTERM")
    return { plan, database, answers, transfers, snapshots }
  } finally {
    for (const bank of running.values()) bank.child.kill("SIGKILL")
  }
}
