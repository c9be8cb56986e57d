/**
 * Three of our engines on one Postgres schema in the harness. Like the single engine of `postgres.ts`, each is in a process together
 * with its worker and its client, and starts its share of the runs itself. `npm run bench -- --mode postgres,postgres-3` shows what
 * sharing a database costs.
 */
import { type ChildProcess, fork } from "node:child_process"
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"
import { functions } from "./functions.ts"
import { type Adapter, input, main, pool } from "./limits/lib/harness.mjs"
import { freshDb, tools } from "./limits/lib/pg.mjs"
import { resultOfRun, startRun } from "./runs.ts"

const NODES = 3

/** A request to an engine: to start a run, to return the result of a run, or both; or to make many runs. */
interface NodeRequest {
  readonly id: number
  readonly many?: { readonly kind: string; readonly n: number; readonly inFlight: number }
  readonly start?: { readonly kind: string; readonly input: unknown }
  readonly waits?: boolean
  readonly runId?: string
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

/**
 * Returns a function that collects messages and sends those of one turn of the event loop together, so that the messages of the
 * benchmark itself cost little.
 */
const together = <A>(send: (messages: ReadonlyArray<A>) => void): ((message: A) => void) => {
  let messages: Array<A> = []
  return (message) => {
    if (messages.push(message) > 1) return
    setImmediate(() => {
      const all = messages
      messages = []
      send(all)
    })
  }
}

const url = process.env.BENCH_NODE_URL
if (url !== undefined) {
  const engine = await startEngine({ databaseUrl: url, functions, maxConcurrentJobs: 512, logger: false })
  const respond = together<Answer>((answers) => void process.send?.(answers))
  const answer = async ({ many, runId, start, waits }: NodeRequest): Promise<unknown> => {
    if (many !== undefined) {
      await pool(many.n, many.inFlight, async () =>
        resultOfRun(engine.client, await startRun(engine.client, many.kind, input()))
      )
      return
    }
    if (start === undefined) return resultOfRun(engine.client, String(runId))
    const started = await startRun(engine.client, start.kind, start.input)
    return waits === true ? resultOfRun(engine.client, started) : started
  }
  process.on("message", (requests: ReadonlyArray<NodeRequest>) => {
    for (const request of requests) {
      answer(request).then(
        (value) => respond({ id: request.id, value }),
        (error: unknown) => respond({ id: request.id, error: String(error) })
      )
    }
  })
  process.on("disconnect", () => void engine.close())
  respond({ id: 0 })
} else await compare()

async function compare(): Promise<void> {
  const databaseUrl = await freshDb("bench_ironflow")
  const database = await tools(databaseUrl)
  const nodes: Array<{ readonly child: ChildProcess; readonly send: (request: NodeRequest) => void }> = []
  const open = new Map<number, (answer: Answer) => void>()
  let last = 0
  const ask = (node: number, request: Omit<NodeRequest, "id">): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const id = ++last
      open.set(id, ({ error, value }) => (error === undefined ? resolve(value) : reject(new Error(error))))
      nodes[node]!.send({ ...request, id })
    })
  const startNode = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(import.meta.filename, { env: { ...process.env, BENCH_NODE_URL: databaseUrl } })
      nodes.push({ child, send: together((requests) => void child.send([...requests])) })
      child.on("exit", (code) => reject(new Error(`a node ended with ${code}`)))
      child.on("message", (answers: ReadonlyArray<Answer>) => {
        for (const answer of answers) {
          if (answer.id === 0) {
            resolve()
            continue
          }
          const done = open.get(answer.id)
          open.delete(answer.id)
          done?.(answer)
        }
      })
    })
  const adapter: Adapter<{ readonly node: number; readonly runId: string }> = {
    name: "ironflow-postgres-3",
    async boot() {
      for (let i = 0; i < NODES; i++) await startNode()
    },
    async start(kind, input) {
      const node = last % NODES
      return { node, runId: String(await ask(node, { start: { kind, input } })) }
    },
    result: ({ node, runId }) => ask(node, { runId }),
    run: (kind, input) => ask(last % NODES, { start: { kind, input }, waits: true }),
    many: (kind, n, inFlight) => {
      const shareOf = (all: number, node: number): number => Math.floor((all + node) / NODES)
      return Promise.all(
        nodes.map((_, node) =>
          ask(node, { many: { kind, n: shareOf(n, node), inFlight: shareOf(inFlight, node) } })
        )
      )
    },
    procs: () => nodes.map(({ child: { pid } }, i) => ({ name: `node ${i + 1}`, pid: pid ?? 0 })),
    disk: () => database.disk(),
    shutdown: async () => {
      const ended = nodes.map(({ child }) => new Promise((resolve) => child.once("exit", resolve)))
      for (const { child } of nodes) child.disconnect()
      await Promise.all(ended)
      await database.end()
    }
  }
  // each process has its own warm-up of 2,000 runs, as the process of `postgres.ts` has
  await main(adapter, { n3: 2000 * NODES })
}
