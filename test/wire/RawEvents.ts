/**
 * A subscription over ConnectRPC like that of a legacy browser client: it posts one envelope and receives envelopes, over
 * HTTP/1.1 with `fetch`, and over HTTP/2 by hand. It shares no code with the package.
 */
import * as http2 from "node:http2"
import { envelope } from "./RawStream.ts"

export const STREAM = "application/connect+json"

export interface EventsOptions {
  readonly method?: "Subscribe" | "JoinConsumerGroup"
  readonly headers?: Record<string, string>
  /** Bytes to send instead of the envelope of the message. */
  readonly body?: Buffer
}

export class RawEvents implements Disposable {
  // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine sends
  readonly events: Array<any> = []
  /** The JSON of the last envelope. */
  end: { readonly error?: { readonly code: string; readonly message: string } } | undefined
  /** The text of an answer that is no stream. */
  text = ""
  isClosed = false
  readonly status: number
  readonly headers: Headers
  readonly #abort: () => void
  #rest = Buffer.alloc(0)
  #wake: () => void = () => undefined

  private constructor(status: number, headers: Headers, abort: () => void) {
    this.status = status
    this.headers = headers
    this.#abort = abort
  }

  /** Resolves when the headers of the answer have arrived. */
  static async open(url: string, message: object, options: EventsOptions = {}): Promise<RawEvents> {
    const abort = new AbortController()
    const { body = envelope(Buffer.from(JSON.stringify(message))), headers, method = "Subscribe" } = options
    const response = await fetch(`${url}/ironflow.v1.PubSubService/${method}`, {
      method: "POST",
      headers: { "content-type": STREAM, "connect-protocol-version": "1", ...headers },
      body: new Uint8Array(body),
      signal: abort.signal
    })
    const events = new RawEvents(response.status, response.headers, () => abort.abort())
    void events.#readAll(response)
    return events
  }

  static async openHttp2(url: string, message: object, options: EventsOptions = {}): Promise<RawEvents> {
    const { headers, method = "Subscribe" } = options
    const session = http2.connect(url)
    session.on("error", () => undefined)
    const stream = session.request({
      ":method": "POST",
      ":path": `/ironflow.v1.PubSubService/${method}`,
      "content-type": STREAM,
      ...headers
    })
    stream.on("error", () => undefined)
    stream.end(envelope(Buffer.from(JSON.stringify(message))))
    const head = await new Promise<http2.IncomingHttpHeaders>((resolve) => stream.once("response", resolve))
    const texts = Object.entries(head).filter(([name]) => !name.startsWith(":")) as Array<[string, string]>
    const events = new RawEvents(Number(head[":status"]), new Headers(texts), () => session.destroy())
    stream.on("data", (chunk: Buffer) => events.#read(chunk))
    stream.on("close", () => {
      events.#closed()
      session.close()
    })
    return events
  }

  /** Waits until so many events have come, and returns them. */
  async take(count: number): Promise<RawEvents["events"]> {
    while (this.events.length < count) {
      if (this.isClosed) throw new Error(`The stream has ended: ${JSON.stringify(this.end ?? this.text)}`)
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return this.events.slice(0, count)
  }

  /** Waits until the answer is over; returns the code that it ended with. */
  async over(): Promise<string | undefined> {
    while (!this.isClosed) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.end?.error?.code
  }

  [Symbol.dispose](): void {
    this.#abort()
  }

  async #readAll(response: Response): Promise<void> {
    try {
      for await (const chunk of response.body ?? []) this.#read(Buffer.from(chunk as Uint8Array))
    } catch {
      // the test has aborted it, or the connection was lost
    }
    this.#closed()
  }

  #read(chunk: Buffer): void {
    if (this.headers.get("content-type") !== STREAM) {
      this.text += chunk.toString()
      return
    }
    this.#rest = Buffer.concat([this.#rest, chunk])
    while (this.#rest.length >= 5 && this.#rest.length >= 5 + this.#rest.readUInt32BE(1)) {
      const length = this.#rest.readUInt32BE(1)
      const value = JSON.parse(this.#rest.subarray(5, 5 + length).toString())
      if (this.#rest[0] === 2) this.end = value
      else this.events.push(value)
      this.#rest = this.#rest.subarray(5 + length)
    }
    this.#wake()
  }

  #closed(): void {
    this.isClosed = true
    this.#wake()
  }
}
