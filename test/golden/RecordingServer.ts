/** A server in place of an engine: it records the requests of a client, and the test decides how it answers. */
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { headersIn } from "./Rig.ts"

export interface Request {
  readonly method: string
  /** Includes the query. */
  readonly path: string
  /** The headers that the client sets. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export interface Answer {
  readonly status: number
  readonly type?: string | undefined
  readonly text: string
}

/** Headers that the HTTP library of the client sets. */
const libraryHeaders = new Set(["host", "accept-language", "accept-encoding", "sec-fetch-mode", "user-agent"])

/** Headers with a random value for each request. */
const traceHeaders = new Set(["b3", "traceparent"])

export class RecordingServer implements AsyncDisposable {
  readonly #server: Server
  answer: (request: Request) => Promise<Answer> | Answer

  private constructor(answer: (request: Request) => Promise<Answer> | Answer) {
    this.answer = answer
    this.#server = createServer(async (request, response) => {
      const chunks: Array<Buffer> = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const { status, text, type } = await this.answer({
        method: request.method!,
        path: request.url!,
        headers: Object.fromEntries(
          headersIn(request.rawHeaders)
            .filter(([name]) => !libraryHeaders.has(name))
            .map(([name, value]) => [name, traceHeaders.has(name) ? "<trace>" : value])
        ),
        body: Buffer.concat(chunks)
      })
      response.writeHead(status, type === undefined ? {} : { "content-type": type })
      response.end(text)
    })
  }

  static async start(): Promise<RecordingServer> {
    const server = new RecordingServer(() => ({ status: 500, text: "" }))
    await new Promise<void>((resolve) => void server.#server.listen(0, "127.0.0.1", resolve))
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }
}
