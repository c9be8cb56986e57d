/** A process with functions in push mode that is frozen while requests for turns arrive. */
import { type ChildProcess, spawn } from "node:child_process"
import { createHmac } from "node:crypto"
import { once } from "node:events"
import { connect } from "node:net"
import { afterEach, assert, it } from "vitest"
import { nodeArguments } from "../Built.ts"
import { SIGNING_KEY } from "./Hosts.ts"

const app = `
import http from "node:http"
import { createFunction, serve } from "@ironflow/node"
const ship = createFunction({ id: "ship", triggers: [] }, ({ event, step }) =>
  step.run("ship", async () => void console.log("ran " + event.data.order))
)
const server = http.createServer(serve({ functions: [ship], signingKey: "${SIGNING_KEY}", logger: false }))
server.listen(0, "127.0.0.1", () => console.log("port " + server.address().port))
`

let child: ChildProcess | undefined
afterEach(() => void child?.kill("SIGKILL"))

const turn = (order: string): string =>
  JSON.stringify({
    type: "turn",
    sent_at: Date.now(),
    job: {
      jobId: `job_${order}`,
      runId: `run_${order}`,
      functionId: "ship",
      environment: "default",
      attempt: 1,
      generation: 0,
      event: { id: "evt_1", name: "order.placed", version: 1, data: JSON.stringify({ order }), timestamp: 0 },
      journal: [],
      open: [],
      lingerMs: 0,
      createdAt: 0
    }
  })

const requestOf = (body: string): string =>
  `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n` +
  `X-Ironflow-Signature: sha256=${createHmac("sha256", SIGNING_KEY).update(body).digest("hex")}\r\n\r\n${body}`

it(
  "a process runs no step for a request that the engine gave up while the process was frozen",
  { timeout: 30_000 },
  async () => {
    child = spawn(process.execPath, [...nodeArguments(), "--input-type=module", "-e", app], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    let output = ""
    const untilSaid = async (what: RegExp): Promise<RegExpExecArray> => {
      for (;;) {
        const match = what.exec(output)
        if (match !== null) return match
        output += String((await once(child!.stdout!, "data"))[0])
      }
    }
    const port = Number((await untilSaid(/port (\d+)\n/))[1])
    const ask = async (order: string) => {
      const socket = connect(port, "127.0.0.1")
      await once(socket, "connect")
      await new Promise<void>((resolve) => void socket.write(requestOf(turn(order)), () => resolve()))
      return socket
    }

    const first = await ask("one")
    await untilSaid(/ran one\n/)
    child.kill("SIGSTOP")
    const [givenUp, waiting] = [await ask("two"), await ask("three")]
    const closed = once(givenUp, "close")
    givenUp.destroy()
    await closed
    child.kill("SIGCONT")

    await untilSaid(/ran three\n/)
    // steps of the second request would have started by now: a later request has run its step
    await ask("four").then((socket) => untilSaid(/ran four\n/).then(() => void socket.destroy()))
    assert.notInclude(output, "ran two")
    first.destroy()
    waiting.destroy()
  }
)
