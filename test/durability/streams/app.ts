/**
 * A process of the bank: an engine on a file, which listens, or a worker for it, or both. It may be killed at any
 * moment. `node --conditions=@ironflow/source app.ts '<BankOptions as JSON>'`.
 *
 * It prints `ready`, and closes in order on SIGTERM.
 */
import process from "node:process"
import { BucketExistsError, createFunction, createWorker } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

export interface BankOptions {
  readonly role: "engine" | "worker" | "all"
  readonly port: number
  readonly database: string
  /** It kills itself `turns` turns of the event loop after the `nth` body of a transaction has returned. */
  readonly fate?: { readonly nth: number; readonly turns: number }
}

const { database, fate, port, role } = JSON.parse(process.argv[2] ?? "") as BankOptions
const serverUrl = `http://127.0.0.1:${port}`

let returned = 0
const bodyReturns = (): void => {
  if (fate === undefined || ++returned !== fate.nth) return
  const dieAfter = (turns: number): void => {
    if (turns <= 0) process.kill(process.pid, "SIGKILL")
    else setImmediate(() => dieAfter(turns - 1))
  }
  // at 0 it dies before the body returns
  dieAfter(fate.turns)
}

/** Plain `fetch`, since a client would retry for seconds; here the step's policy retries. */
const versionOf = async (account: string): Promise<number> => {
  const response = await fetch(`${serverUrl}/ironflow.v1.EntityStreamService/GetStreamInfo`, {
    method: "POST",
    body: JSON.stringify({ entity_id: account })
  })
  const info: unknown = await response.json()
  if (response.status !== 200 && response.status !== 404) throw new Error(`status ${response.status}`)
  return Number(Object(info).version ?? 0)
}

/** The revision of the account in the bucket `ledger`; 0 when it has none. */
const revisionOf = async (account: string): Promise<number> => {
  const response = await fetch(`${serverUrl}/api/v1/kv/buckets/ledger/keys/${account}`)
  const entry: unknown = await response.json()
  if (response.status !== 200 && response.status !== 404) throw new Error(`status ${response.status}`)
  return Number(Object(entry).revision ?? 0)
}

const retry = { maxAttempts: 1000, initialDelayMs: 10, maxDelayMs: 50 }

/** Moves money between two accounts, writes a ledger and a receipt, and emits an event: all of it or nothing. */
const transfer = createFunction(
  { id: "transfer", triggers: [{ event: "transfer.requested" }], retry },
  async ({ event, run, step }) => {
    const { from, to } = event.data
    await step.run("check", () => "checked")
    const { value, writes } = await step.tx("move", async (tx, { attempt }) => {
      const ledger = await revisionOf(from)
      const [left, right] = [await versionOf(from), await versionOf(to)]
      const data = { token: run.id, attempt }
      tx.streams.append(
        from,
        { name: "money.withdrawn", data, entityType: "account" },
        { expectedVersion: left }
      )
      tx.streams.append(
        to,
        { name: "money.deposited", data, entityType: "account" },
        { expectedVersion: right }
      )
      tx.emit("transfer.done", data)
      if (ledger === 0) tx.kv("ledger").create(from, data)
      else tx.kv("ledger").update(from, data, ledger)
      tx.kv("receipts").create(run.id, data)
      bodyReturns()
      return attempt
    })
    await step.run("after", () => "after")
    return { attempt: value, writes: writes.length }
  }
)

const note = createFunction(
  { id: "note", triggers: [{ event: "transfer.done" }], retry },
  async ({ event, step }) => step.run("note", () => event.data.token)
)

const workerOptions = { functions: [transfer, note], maxConcurrentJobs: 8, logger: false } as const

const close = await (async (): Promise<() => Promise<void>> => {
  if (role === "worker") {
    const worker = createWorker({ serverUrl, ...workerOptions })
    const stopped = worker.start()
    await worker.ready()
    return async () => {
      await worker.stop()
      await stopped
    }
  }
  const engine = await startEngine({
    filename: database,
    listen: { port },
    logger: false,
    ...(role === "all" ? workerOptions : {})
  })
  for (const name of ["ledger", "receipts"]) {
    await engine.client
      .kv()
      .createBucket({ name, history: name === "ledger" ? 64 : 1 })
      .catch((error: unknown) => {
        // an earlier process may have created it
        if (!(error instanceof BucketExistsError)) throw error
      })
  }
  return () => engine.close()
})()
process.once("SIGTERM", () => void close().then(() => process.exit(0)))
process.stdout.write("ready\n")
