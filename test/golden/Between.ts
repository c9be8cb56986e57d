/** A server between a client and an engine: it notes what the client asks, and who answers is up to the test. */
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { headersIn } from "./Rig.ts"

export interface Asked {
  readonly method: string
  /** With the query. */
  readonly path: string
  /** Those that the client sets. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export interface Answered {
  readonly status: number
  readonly type?: string | undefined
  readonly text: string
}

/** Headers that are of the HTTP library below the client. */
const ofTheLibrary = new Set(["host", "accept-language", "accept-encoding", "sec-fetch-mode", "user-agent"])

/** Made by chance for each request. */
const ofTraces = new Set(["b3", "traceparent"])

export class Between implements AsyncDisposable {
  readonly #server: Server
  answer: (asked: Asked) => Promise<Answered> | Answered

  private constructor(answer: (asked: Asked) => Promise<Answered> | Answered) {
    this.answer = answer
    this.#server = createServer(async (request, response) => {
      const chunks: Array<Buffer> = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const { status, text, type } = await this.answer({
        method: request.method!,
        path: request.url!,
        headers: Object.fromEntries(
          headersIn(request.rawHeaders)
            .filter(([name]) => !ofTheLibrary.has(name))
            .map(([name, value]) => [name, ofTraces.has(name) ? "<trace>" : value])
        ),
        body: Buffer.concat(chunks)
      })
      response.writeHead(status, type === undefined ? {} : { "content-type": type })
      response.end(text)
    })
  }

  static async start(): Promise<Between> {
    const between = new Between(() => ({ status: 500, text: "" }))
    await new Promise<void>((resolve) => void between.#server.listen(0, "127.0.0.1", resolve))
    return between
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
