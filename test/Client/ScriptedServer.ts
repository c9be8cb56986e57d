/** A scripted server on a real socket: it gives the scripted answers, and records its requests. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"

export interface Asked {
  readonly method: string
  /** The path with its query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | Array<string> | undefined>>
  /** The parsed JSON, or `undefined` when there was no body. */
  readonly body: any
  /** Resolves when the answer is complete, or the client has closed the connection before that. */
  readonly hungUp: Promise<void>
}

/** A `body` that is a string is sent unchanged, any other as JSON. */
export interface Reply {
  readonly status?: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type Script = (asked: Asked) => Reply | "hang up" | Promise<Reply | "hang up">

export class ScriptedServer implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #script: Script
  readonly asked: Array<Asked> = []
  #watchers = new Set<() => void>()

  private constructor(script: Script) {
    this.#script = script
    this.#server = createServer((request, response) => void this.#serve(request, response))
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket)
      socket.once("close", () => this.#sockets.delete(socket))
    })
  }

  static async start(script: Script, port = 0): Promise<ScriptedServer> {
    const server = new ScriptedServer(script)
    await new Promise<void>((resolve) => server.#server.listen(port, "127.0.0.1", resolve))
    return server
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  set script(script: Script) {
    this.#script = script
  }

  /** The requests so far, as `GET /path`. */
  get lines(): Array<string> {
    return this.asked.map(({ method, path }) => `${method} ${path}`)
  }

  /** Waits until a condition is met. It is checked after each request and each answer. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!holds()) return
        this.#watchers.delete(look)
        resolve()
      }
      this.#watchers.add(look)
      look()
    })
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    const asked: Asked = {
      method: request.method!,
      path: request.url!,
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
      hungUp: new Promise((resolve) =>
        response.once("close", () => void (response.writableFinished || resolve()))
      )
    }
    this.asked.push(asked)
    this.#changed()
    const reply = await this.#script(asked)
    if (reply === "hang up") {
      request.socket.destroy()
    } else if (!response.destroyed) {
      const { status = 200, body, headers } = reply
      response.writeHead(status, { "content-type": "application/json", ...headers })
      response.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body))
    }
    this.#changed()
  }

  #changed(): void {
    for (const look of this.#watchers) look()
  }
}

/** A port on which nothing listens. */
export const unusedPort = async (): Promise<number> => {
  const server = await ScriptedServer.start(() => ({}))
  const { port } = server
  await server.stop()
  return port
}
