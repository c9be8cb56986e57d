/**
 * Starts connections as PgBouncer in transaction mode does: it refuses the parameter `options`, which it does not track, or
 * ignores it where it is configured to (`ignore_startup_parameters = options`).
 */
import { connect, createServer, type Socket } from "node:net"

interface Pooler {
  readonly url: string
  readonly close: () => Promise<void>
}

/** The parameters of a startup message, without one of them. */
const withoutParameter = (message: Buffer, name: string): Buffer => {
  const parts = message.subarray(8).toString().split("\0")
  const kept: Array<string> = []
  for (let i = 0; i + 1 < parts.length && parts[i] !== ""; i += 2) {
    if (parts[i] !== name) kept.push(parts[i]!, parts[i + 1]!)
  }
  const body = Buffer.from(`${kept.join("\0")}\0\0`)
  const head = Buffer.from(message.subarray(0, 8))
  head.writeInt32BE(8 + body.length, 0)
  return Buffer.concat([head, body])
}

const refusal = (message: string): Buffer => {
  const body = Buffer.from(`SFATAL\0VFATAL\0C08P01\0M${message}\0\0`)
  const head = Buffer.alloc(5)
  head.write("E", 0)
  head.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}

export const startPooler = async (target: string, behaviour: "refuses" | "ignores"): Promise<Pooler> => {
  const real = new URL(target)
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const postgres = connect(Number(real.port), real.hostname)
    const end = (): void => {
      client.destroy()
      postgres.destroy()
    }
    for (const socket of [client, postgres]) {
      sockets.add(socket)
      socket.on("error", end)
      socket.on("close", () => {
        sockets.delete(socket)
        end()
      })
    }
    client.once("data", (startup: Buffer) => {
      if (behaviour === "refuses" && startup.includes("options\0")) {
        client.end(refusal("unsupported startup parameter: options"))
        return
      }
      postgres.write(withoutParameter(startup, "options"))
      client.on("data", (chunk: Buffer) => postgres.write(chunk))
    })
    postgres.on("data", (chunk: Buffer) => client.write(chunk))
  })
  const port = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve(typeof address === "object" && address !== null ? address.port : 0)
    })
  })
  const url = new URL(target)
  url.port = String(port)
  url.hostname = "127.0.0.1"
  return {
    url: url.href,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      })
  }
}
