/** A port in front of another, over which a test has power. */
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
  /** Connections that have only heard the impostor. */
  readonly #fooled = new Set<net.Socket>()
  #impostor: ((near: net.Socket) => void) | undefined
  connections = 0
  port = 0

  private constructor(targetPort: number) {
    // what one side closes is passed on, or not: a network closes nothing by itself
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
    // a server that listens on a TCP port has such an address
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

  /** Nothing passes any more over the connections that are open, and neither side hears of it. */
  freeze(): void {
    for (const { far, near } of this.#pairs) {
      near.unpipe(far).pause()
      far.unpipe(near).pause()
    }
  }

  /** What was held up since {@link freeze} arrives. */
  thaw(): void {
    for (const { far, near } of this.#pairs) {
      near.pipe(far)
      far.pipe(near)
    }
  }

  /** What the server sends stays where it is. */
  holdAnswers(): void {
    for (const { far, near } of this.#pairs) far.unpipe(near).pause()
  }

  releaseAnswers(): void {
    for (const { far, near } of this.#pairs) far.pipe(near)
  }

  /** Somebody else answers in place of the server, on the connections that are open and on new ones, until `heal`. */
  impersonate(impostor: (near: net.Socket) => void): void {
    this.#impostor = impostor
    for (const { far, near } of this.#pairs) {
      near.unpipe(far)
      far.unpipe(near)
      impostor(near)
    }
  }

  heal(): void {
    this.#impostor = undefined
    for (const near of this.#fooled) near.resetAndDestroy()
    this.cut()
  }

  /** Ends the connections that are open. */
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
