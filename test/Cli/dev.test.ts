/** The command `dev`: engine, worker and live lines in one terminal, while the code changes and after a kill. */
import { existsSync, statSync } from "node:fs"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { jsonHere } from "./Here.ts"
import { freePort, Terminal, waitForRun } from "./Terminal.ts"

const functions = (returned: string) => `
import { appendFileSync, existsSync } from "node:fs"
import { createFunction } from "@ironflow/node"
import { priceOf } from "./prices.js"

export const processOrder = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const price = await step.run("price", () => {
      appendFileSync("prices.log", event.data.orderId + "\\n")
      return priceOf(event.data.orderId)
    })
    await step.run("ship", async () => {
      console.log(\`shipping begins in process \${process.pid}\`)
      while (event.data.gate !== undefined && !existsSync(event.data.gate)) {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    })
    return { price, by: ${JSON.stringify(returned)} }
  }
)
`

let terminal: Terminal
let port: number
let url: string
beforeEach(async () => {
  terminal = new Terminal({
    "functions.ts": functions("first"),
    "prices.ts": "export const priceOf = (orderId: string): number => orderId.length\n",
    // what \`npm init\` writes
    "package.json": '{ "type": "commonjs" }'
  })
  port = await freePort()
  url = `http://127.0.0.1:${port}`
})
afterEach(() => terminal[Symbol.asyncDispose]())

const dev = (env = {}) => terminal.start(["dev", "./functions.ts", "--port", String(port)], { env })
const emit = async (data: unknown): Promise<string> =>
  (await jsonHere(["emit", "order.placed", JSON.stringify(data)], { env: { IRONFLOW_SERVER_URL: url } }))
    .runIds[0]

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("dev", () => {
  it("runs functions, prints what happens, follows the code, and ends at Ctrl-C", async () => {
    const running = dev({ IRONFLOW_DATABASE_URL: "postgres://localhost:1/orders" })
    const greeting = await running.until("npx ironflow emit")
    assert.include(
      running.output(),
      "`ironflow dev` has its data in .ironflow/dev.db and does not use IRONFLOW_DATABASE_URL. `ironflow serve` does."
    )
    assert.include(greeting, `at ${url}, data in .ironflow/dev.db`)
    assert.include(greeting, `npx ironflow emit order.placed '{}' --wait --server-url ${url}`)
    assert.strictEqual(statSync(terminal.pathOf(".ironflow/dev.db.key")).mode & 0o777, 0o600)
    assert.isTrue(existsSync(terminal.pathOf(".ironflow/.gitignore")))

    const first = await emit({ orderId: "o-1" })
    const lines = (await running.until(`${first}  process-order  completed`))
      .split("\n")
      .filter((line) => line.includes(first))
      .map((line) =>
        line.replace(/^\d\d:\d\d:\d\d {2}run_\w+ {2}/, "").replaceAll(/\d+(\.\d+)?m?s/g, "<time>")
      )
    assert.deepStrictEqual(lines, [
      "process-order  created",
      "process-order  started",
      "process-order    ✓ price  <time>  3",
      "process-order    ✓ ship  <time>",
      'process-order  completed in <time>  {"price":3,"by":"first"}'
    ])

    terminal.write("functions.ts", functions("second"))
    await running.until("functions.ts has changed: the worker starts again.")
    await running.until("Functions: process-order.", 2)
    const second = await waitForRun(url, await emit({ orderId: "o-2" }))
    assert.deepStrictEqual(second.output, { price: 3, by: "second" })

    terminal.write("prices.ts", "export const priceOf = (\n")
    const broken = await running.until("No worker is running: repair the file and save it")
    assert.match(broken, /^Error: \.\/functions\.ts cannot be loaded: SyntaxError: .* at prices\.ts:\d+\.$/m)
    terminal.write("prices.ts", "export const priceOf = () => 42\n")
    await running.until("Functions: process-order.", 3)
    const third = await waitForRun(url, await emit({ orderId: "o-3" }))
    assert.deepStrictEqual(third.output, { price: 42, by: "second" })

    running.signal("SIGINT")
    assert.strictEqual((await running.ended).code, 0)
  })

  it("continues after it was killed in the middle of a step", async () => {
    const gate = terminal.pathOf("gate")
    const killed = dev()
    await killed.until("Functions:")
    const runId = await emit({ orderId: "o-1", gate })
    const printed = await killed.until(/shipping begins in process \d+/)
    const worker = Number(/in process (\d+)/.exec(printed)?.[1])
    killed.signal("SIGKILL")
    await killed.ended
    while (isAlive(worker)) await new Promise((resolve) => setImmediate(resolve))

    terminal.write("gate", "")
    const again = dev()
    await again.until(`${runId}  process-order  completed`)

    assert.deepInclude(await waitForRun(url, runId), { state: "completed" })
    assert.strictEqual(again.output().split("✓ price").length - 1, 0)
    again.signal("SIGTERM")
    assert.strictEqual((await again.ended).code, 0)
  })

  it("starts no runs of a renamed function, and names earlier functions that wait for a worker", async () => {
    const renamed = () =>
      terminal.write("functions.ts", functions("second").replace('"process-order"', '"handle-order"'))
    const running = dev()
    await running.until("Functions: process-order")

    renamed()
    await running.until(
      "Deleted, since they are no longer in the code: process-order. Nothing starts them any more."
    )

    await running.until(`${await emit({ orderId: "o-1" })}  handle-order  completed`)
    const listed = await jsonHere(["functions", "list"], { env: { IRONFLOW_SERVER_URL: url } })
    assert.deepStrictEqual(
      listed.functions.map(({ id }: { readonly id: string }) => id),
      ["handle-order"]
    )
    running.signal("SIGTERM")
    await running.ended

    terminal.write("functions.ts", functions("third"))
    const again = dev()
    await again.until("No worker has these functions, so their runs wait: handle-order")
    again.signal("SIGTERM")
    await again.ended
  })

  it("reports a file that never finishes loading", async () => {
    terminal.write("prices.ts", "export const priceOf = await new Promise(() => undefined)\n")
    const running = dev()
    await running.until("./functions.ts is still being loaded")

    terminal.write("prices.ts", "export const priceOf = (): number => 7\n")
    await running.until("Functions: process-order.")
  })

  it("restarts a worker that has died", async () => {
    terminal.write(
      "functions.ts",
      functions("mortal") +
        `createFunction({ id: "x", triggers: [] }, () => 1)\nexport const die = createFunction({ id: "die", triggers: [{ event: "worker.tired" }] }, async ({ step }) => {\n  if (!existsSync("died")) {\n    appendFileSync("died", "")\n    process.exit(7)\n  }\n  return "alive"\n})\n`
    )
    const running = dev()
    await running.until("Functions: die, process-order")

    const { runIds } = await jsonHere(["emit", "worker.tired"], { env: { IRONFLOW_SERVER_URL: url } })
    await running.until(
      "The worker has ended (exit code 7): it starts again in 1.0s, or when a file changes."
    )

    assert.deepInclude(await waitForRun(url, runIds[0]), { state: "completed", output: "alive" })
  })
})
