/**
 * Three of our engines on one schema of Postgres behind the harness, each with its worker and its client in a process of its own; runs are
 * started on one after the other. `npm run bench -- --mode postgres,postgres-3` shows what sharing costs.
 */
import { type ChildProcess, fork } from "node:child_process"
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"
import { functions } from "./functions.ts"
import { main } from "./limits/lib/harness.mjs"
import { freshDb, tools } from "./limits/lib/pg.mjs"
import { resultOfRun, startRun } from "./runs.ts"

const NODES = 3

/** What a node is asked: to start a run, or for the result of one. */
interface Asked {
  readonly id: number
  readonly start?: { readonly kind: string; readonly input: unknown }
  readonly runId?: string
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

const url = process.env.BENCH_NODE_URL
if (url !== undefined) {
  const engine = await startEngine({ databaseUrl: url, functions, maxConcurrentJobs: 512, logger: false })
  const tell = (answer: Answer): void => void process.send?.(answer)
  process.on("message", ({ id, runId, start }: Asked) => {
    const answer =
      start === undefined
        ? resultOfRun(engine.client, String(runId))
        : startRun(engine.client, start.kind, start.input)
    answer.then(
      (value) => tell({ id, value }),
      (error: unknown) => tell({ id, error: String(error) })
    )
  }, { n3: 8000 })
  process.on("disconnect", () => void engine.close())
  tell({ id: 0 })
} else await compare()

async function compare(): Promise<void> {
  const databaseUrl = await freshDb("bench_ironflow")
  const database = await tools(databaseUrl)
  const nodes: Array<ChildProcess> = []
  const open = new Map<number, (answer: Answer) => void>()
  let last = 0
  const ask = (node: number, asked: Omit<Asked, "id">): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const id = ++last
      open.set(id, ({ error, value }) => (error === undefined ? resolve(value) : reject(new Error(error))))
      nodes[node]!.send({ ...asked, id })
    })
  const startNode = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const node = fork(import.meta.filename, { env: { ...process.env, BENCH_NODE_URL: databaseUrl } })
      nodes.push(node)
      node.on("exit", (code) => reject(new Error(`a node ended with ${code}`)))
      node.on("message", (answer: Answer) => {
        if (answer.id === 0) return resolve()
        const done = open.get(answer.id)
        open.delete(answer.id)
        done?.(answer)
      })
    })
  await main<{ readonly node: number; readonly runId: string }>({
    name: "ironflow-postgres-3", 
    async boot() {
      for (let i = 0; i < NODES; i++) await startNode()
    },
    async start(kind, input) {
      const node = last % NODES
      return { node, runId: String(await ask(node, { start: { kind, input } })) }
    },
    result: ({ node, runId }) => ask(node, { runId }),
    procs: () => nodes.map(({ pid }, i) => ({ name: `node ${i + 1}`, pid: pid ?? 0 })),
    disk: () => database.disk(),
    shutdown: async () => {
      const ended = nodes.map((node) => new Promise((resolve) => node.once("exit", resolve)))
      for (const node of nodes) node.disconnect()
      await Promise.all(ended)
      await database.end()
    }
  }, { n3: 8000 })
}
