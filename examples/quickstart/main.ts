/**
 * `npm run quickstart`: an order survives the sudden end of the process that runs it.
 *
 * This file starts engine.ts, which kills itself in the middle of a step, and starts it again on the same database. Then it
 * counts how often each step really ran, in a ledger outside of the engine.
 */
import { fork } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { isDeepStrictEqual } from "node:util"
import { startEngine } from "@ironflow/node/engine"
import * as Ledger from "./ledger.ts"

const begun = performance.now()
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-quickstart-"))
process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
const database = path.join(folder, "shop.db")
const ledger = path.join(folder, "ledger.jsonl")

interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Starts the engine's process and waits for its end. When a step requests an approval, this process gives it. */
const runProcess = (life: number): Promise<Ending> =>
  new Promise((resolve, reject) => {
    const child = fork(path.join(import.meta.dirname, "engine.ts"), [database, ledger, String(life)])
    const timeout = setTimeout(() => child.kill("SIGKILL"), 20_000)
    child.on("message", (message: { readonly approvalWanted: string }) =>
      child.send({ orderId: message.approvalWanted, by: "you" })
    )
    child.on("error", reject)
    child.on("exit", (code, signal) => {
      clearTimeout(timeout)
      resolve({ code, signal })
    })
  })

/** Ends the example if a process ended in another way than expected, because the rest would make no sense. */
const expectEnding = (who: string, ending: Ending, expected: Ending): void => {
  if (isDeepStrictEqual(ending, expected)) return
  console.error(
    `\nThe ${who} process ended with ${ending.signal ?? `code ${ending.code}`}; what it printed says why.`
  )
  process.exit(1)
}

let failures = 0
const check = (claim: string, actual: unknown, expected: unknown): void => {
  const holds = isDeepStrictEqual(actual, expected)
  console.log(`   ${holds ? "✓" : "✗"} ${claim}`)
  if (holds) return
  failures += 1
  console.log(`     expected ${JSON.stringify(expected)}\n     found    ${JSON.stringify(actual)}`)
}

console.log("\n1. An engine starts on an empty SQLite file, and an order comes in.\n")
expectEnding("first", await runProcess(1), { code: null, signal: "SIGKILL" })

console.log("\n2. That process is gone. A new one opens the same file, and the order goes on where it was.\n")
expectEnding("second", await runProcess(2), { code: 0, signal: null })

console.log("\n4. What really happened? The steps kept a log of their own, outside of the engine.\n")

const ran = Ledger.read(ledger)
const livesOf = (step: string) =>
  ran
    .filter((entry) => entry.functionId === "process-order" && entry.step === step)
    .map((entry) => entry.life)
for (const step of ["validate", "charge", "reserve-stock", "print-label"]) {
  check(`${step} ran once, in the first process`, livesOf(step), [1])
}
check("pack ran twice: killed in the first process, finished in the second", livesOf("pack"), [1, 2])
for (const step of ["ask-approval", "ship"]) {
  check(`${step} ran once, in the second process`, livesOf(step), [2])
}
check(
  "the gift was rolled back in reverse order",
  ran.filter((entry) => entry.functionId === "send-gift").map((entry) => entry.step),
  ["reserve-stock", "charge", "book-courier", "refund", "release-stock"]
)

// Opens the same file once more: the engine's own record agrees with the ledger.
const engine = await startEngine({ filename: database, logger: false })
const { runs } = await engine.client.listRuns()
const stepsOf = async (functionId: string) => {
  const [run, ...others] = runs.filter((candidate) => candidate.functionId === functionId)
  if (run === undefined || others.length > 0) return { status: "not one run", steps: [] }
  const steps = await engine.client.getRunSteps(run.id)
  return { status: run.status, steps: steps.map((step) => `${step.name} ${step.status}`) }
}
const order = await stepsOf("process-order")
check(
  "the engine's journal of the order has every step once, the approval among them",
  { status: order.status, steps: order.steps.toSorted() },
  {
    status: "completed",
    steps: [
      "approval completed",
      "ask-approval completed",
      "charge completed",
      "let-it-settle completed",
      "pack completed",
      "print-label completed",
      "reserve-stock completed",
      "ship completed",
      "validate completed"
    ]
  }
)
check("the engine's journal of the gift ends with its compensations", await stepsOf("send-gift"), {
  status: "failed",
  steps: [
    "reserve-stock completed",
    "charge completed",
    "book-courier failed",
    "compensate:charge completed",
    "compensate:reserve-stock completed"
  ]
})
await engine.close()

const seconds = ((performance.now() - begun) / 1000).toFixed(1)
console.log(failures === 0 ? `\nAll claims hold (${seconds} s).\n` : `\n${failures} claims do not hold.\n`)
process.exitCode = failures === 0 ? 0 : 1
