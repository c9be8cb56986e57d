/** A bare connection: sends bytes, and waits for what comes back. */
import { connect, type Socket } from "node:net"
import * as tls from "node:tls"

export interface RawSocketOptions {
  /** Speaks TLS, and offers these protocols. */
  readonly alpn?: ReadonlyArray<string>
}

export class RawSocket implements Disposable {
  readonly socket: Socket
  /** Put together when somebody asks for it: that may be after a flood. */
  #received: Array<Buffer> = []
  #closed = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on("error", () => undefined)
    socket.on("data", (chunk: Buffer) => {
      this.#received.push(chunk)
      this.#wake()
    })
    socket.on("end", () => this.#over())
    socket.on("close", () => this.#over())
  }

  static async open(port: number, { alpn }: RawSocketOptions = {}): Promise<RawSocket> {
    const socket =
      alpn === undefined
        ? connect({ port, host: "127.0.0.1", allowHalfOpen: true })
        : tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: [...alpn] })
    const raw = new RawSocket(socket)
    await new Promise<void>((resolve, reject) => {
      socket.once(alpn === undefined ? "connect" : "secureConnect", () => resolve())
      socket.once("error", reject)
    })
    return raw
  }

  /** What has come so far, a byte a character. */
  get received(): string {
    const all = this.#received.length === 1 ? this.#received[0]! : Buffer.concat(this.#received)
    this.#received = [all]
    return all.toString("latin1")
  }

  /** Sends, and waits until the bytes are on their way. */
  send(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => this.socket.write(bytes, () => resolve()))
  }

  /** Waits until this has come; fails when the other side ends before. */
  async until(text: string | RegExp): Promise<string> {
    while (this.received.search(text) === -1) {
      if (this.#closed) throw new Error(`The connection ended with: ${JSON.stringify(this.received)}`)
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return this.received
  }

  /** Everything that came until the other side ended the connection. */
  async all(): Promise<string> {
    while (!this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.received
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }

  #over(): void {
    this.#closed = true
    this.#wake()
  }
}
