/** A proxy to Postgres that can be cut: it forwards everything, and detects commits. */
import { connect, createServer, type Socket } from "node:net"
import { setTimeout as later } from "node:timers"

export interface Proxy {
  readonly url: string
  /** Cuts all connections. */
  readonly cut: () => void
  /** Cuts the connection of the next commit once Postgres has answered it, so that the answer is lost. */
  readonly cutAfterCommit: () => void
  /** Cuts the connection on which the next commit is sent, before Postgres gets it. */
  readonly cutBeforeCommit: () => void
  /** Forwards nothing until `thaw`, also on new connections. */
  readonly freeze: () => void
  readonly thaw: () => void
  readonly close: () => Promise<void>
}

/** How the driver executes the prepared statement "commit". */
const COMMIT = Buffer.from("\0commit\0")

export interface ProxyOptions {
  /** The delay of traffic to Postgres, whole milliseconds: 0 by default. */
  readonly delayMs?: number
  /** How many bytes of the answers pass on each connection; all by default. */
  readonly answerBytes?: number
}

export const startProxy = async (
  target: string,
  { answerBytes = Number.POSITIVE_INFINITY, delayMs = 0 }: ProxyOptions = {}
): Promise<Proxy> => {
  const real = new URL(target)
  const proxied = new URL(target)
  const sockets = new Set<Socket>()
  let next: "after" | "before" | undefined
  let isFrozen = false
  const server = createServer((client) => {
    const postgres = connect(Number(real.port), real.hostname)
    let isOver = false
    let left = answerBytes
    const end = (): void => {
      client.destroy()
      postgres.destroy()
    }
    for (const socket of [client, postgres]) {
      sockets.add(socket)
      // send small pieces at once, without waiting for the last acknowledgement
      socket.setNoDelay(true)
      socket.on("error", end)
      socket.on("close", () => {
        sockets.delete(socket)
        end()
      })
    }
    if (isFrozen) for (const socket of [client, postgres]) socket.pause()
    client.on("data", (chunk: Buffer) => {
      if (next !== undefined && chunk.includes(COMMIT)) {
        isOver = next === "after"
        const isBefore = next === "before"
        next = undefined
        if (isBefore) return end()
      }
      if (delayMs === 0) postgres.write(chunk)
      else later(() => void (postgres.destroyed || postgres.write(chunk)), delayMs)
    })
    postgres.on("data", (chunk: Buffer) => {
      // the answer to the commit may be in a chunk with others
      if (isOver && chunk.includes("COMMIT")) return end()
      if (!isOver && left > 0) client.write(chunk.subarray(0, left))
      left -= chunk.length
    })
  })
  const port = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve(typeof address === "object" && address !== null ? address.port : 0)
    })
  })
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  proxied.port = String(port)
  proxied.hostname = "127.0.0.1"
  return {
    url: proxied.href,
    cut,
    cutAfterCommit: () => (next = "after"),
    cutBeforeCommit: () => (next = "before"),
    freeze: () => {
      isFrozen = true
      for (const socket of sockets) socket.pause()
    },
    thaw: () => {
      isFrozen = false
      for (const socket of sockets) socket.resume()
    },
    close: () =>
      new Promise((resolve) => {
        cut()
        server.close(() => resolve())
      })
  }
}
