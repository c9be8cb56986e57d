/** A plain TCP or TLS connection: sends bytes, and waits for the bytes that come back. */
import { connect, type Socket } from "node:net"
import * as tls from "node:tls"

export interface RawSocketOptions {
  /** Uses TLS, and offers these protocols. */
  readonly alpn?: ReadonlyArray<string>
}

export class RawSocket implements Disposable {
  readonly socket: Socket
  /** Concatenated only when read: to concatenate at each chunk would copy a flood over and over. */
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

  /** All received bytes, one character for each. */
  get received(): string {
    const all = this.#received.length === 1 ? this.#received[0]! : Buffer.concat(this.#received)
    this.#received = [all]
    return all.toString("latin1")
  }

  /** Sends bytes, and waits until they have been handed to the system. */
  send(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => this.socket.write(bytes, () => resolve()))
  }

  /** Waits until this text has arrived; fails when the other side ends before. */
  async until(text: string | RegExp): Promise<string> {
    while (this.received.search(text) === -1) {
      if (this.#closed) throw new Error(`The connection ended with: ${JSON.stringify(this.received)}`)
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return this.received
  }

  /** Everything that arrives until the other side ends the connection. */
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
