/**
 * A push app in its own process: `node --conditions=@ironflow/source app.ts '<AppOptions as JSON>'`. It prints `ready`
 * when it listens. The bodies of its steps write what happens into a file that only grows.
 */
import fs from "node:fs"
import http from "node:http"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createFunction, serve } from "@ironflow/node"

export interface AppOptions {
  readonly port: number
  readonly serverUrl: string
  readonly signingKey: string
  readonly log: string
  /** It kills itself right after the n-th line of this life. */
  readonly dieAfter?: number
}

/** The body of a step began, or is about to return. */
export interface Line {
  readonly t: "begin" | "end"
  readonly run: string
  readonly step: string
  /** What the body returns, new for each execution. */
  readonly token: string
}

const options = JSON.parse(process.argv[2] ?? "") as AppOptions
const fd = fs.openSync(options.log, "a")
let lines = 0
const write = (line: Line): void => {
  fs.writeSync(fd, `${JSON.stringify(line)}\n`)
  if (++lines === options.dieAfter) process.kill(process.pid, "SIGKILL")
}

const order = createFunction(
  { id: "order", triggers: [{ event: "order.placed" }] },
  async ({ run, step }) => {
    const tokens: Array<string> = []
    const work = (name: string, ms: number) =>
      step.run(name, async () => {
        const line = { run: run.id, step: name, token: `${process.pid}-${lines}` }
        write({ t: "begin", ...line })
        await delay(ms)
        write({ t: "end", ...line })
        return line.token
      })
    for (const name of ["reserve", "charge", "pack"]) tokens.push(await work(name, 15))
    await step.sleep("cool off", "60ms")
    tokens.push(...(await step.parallel("both", [() => work("label", 20), () => work("mail", 10)])))
    tokens.push(await work("ship", 15))
    return tokens
  }
)

const handler = serve({
  functions: [order],
  signingKey: options.signingKey,
  serverUrl: options.serverUrl,
  logger: false
})
http
  .createServer((request, response) => void handler(request, response))
  .listen(options.port, "127.0.0.1", () => void process.stdout.write("ready\n"))
