/** A proxy in front of a port, which a test controls. */
import { once } from "node:events"
import * as net from "node:net"

interface Pair {
  readonly near: net.Socket
  readonly far: net.Socket
}

export class FaultyNetwork implements AsyncDisposable {
  readonly #server: net.Server
  readonly #pairs = new Set<Pair>()
  #listening: ReadonlyArray<() => void> = []
  /** Connections that have received data of the impostor only. */
  readonly #fooled = new Set<net.Socket>()
  #impostor: ((near: net.Socket) => void) | undefined
  connections = 0
  port = 0

  private constructor(targetPort: number) {
    // when one side closes, the test decides whether the other side is told
    this.#server = net.createServer({ allowHalfOpen: true }, (near) => {
      this.connections++
      for (const listener of this.#listening) listener()
      if (this.#impostor !== undefined) {
        this.#fooled.add(near)
        near
          .on("error", () => undefined)
          .on("close", () => this.#fooled.delete(near))
          .resume()
        return this.#impostor(near)
      }
      const far = net.connect({ port: targetPort, host: "127.0.0.1", allowHalfOpen: true })
      const pair = { near, far }
      this.#pairs.add(pair)
      const end = () => {
        near.destroy()
        far.destroy()
        this.#pairs.delete(pair)
      }
      near.on("error", end).on("close", end)
      far.on("error", end).on("close", end)
      near.pipe(far)
      far.pipe(near)
    })
  }

  static async before(url: string): Promise<FaultyNetwork> {
    const network = new FaultyNetwork(Number(new URL(url).port))
    network.#server.listen(0, "127.0.0.1")
    await once(network.#server, "listening")
    // a server on a TCP port has such an address
    network.port = (network.#server.address() as net.AddressInfo).port
    return network
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Calls `listener` for every new connection. */
  onConnection(listener: () => void): void {
    this.#listening = [...this.#listening, listener]
  }

  /** Open connections pass on nothing any more, and neither side is told. */
  freeze(): void {
    for (const { far, near } of this.#pairs) {
      near.unpipe(far).pause()
      far.unpipe(near).pause()
    }
  }

  /** Passes on what was held up since {@link freeze}. */
  thaw(): void {
    for (const { far, near } of this.#pairs) {
      near.pipe(far)
      far.pipe(near)
    }
  }

  /** Holds up what the server sends. */
  holdAnswers(): void {
    for (const { far, near } of this.#pairs) far.unpipe(near).pause()
  }

  releaseAnswers(): void {
    for (const { far, near } of this.#pairs) far.pipe(near)
  }

  /** Until `heal`, the impostor answers instead of the server, on open and on new connections. */
  impersonate(impostor: (near: net.Socket) => void): void {
    this.#impostor = impostor
    for (const { far, near } of this.#pairs) {
      near.unpipe(far)
      far.unpipe(near)
      impostor(near)
    }
  }

  /** Ends the impostor, and cuts all connections. */
  heal(): void {
    this.#impostor = undefined
    for (const near of this.#fooled) near.resetAndDestroy()
    this.cut()
  }

  /** Ends all open connections. */
  cut(): void {
    for (const { far, near } of this.#pairs) {
      near.resetAndDestroy()
      far.resetAndDestroy()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.heal()
    this.#server.close()
    await once(this.#server, "close")
  }
}
