/** The two ends of a connection inside the process. Frames arrive in later turns of the event loop, like those of a socket. */
import type { Wire } from "../../Protocol/Subscriptions.ts"
import { setImmediate } from "../../RealTimers.ts"

/** How many frames are delivered in one turn of the event loop. */
const BURST = 256

interface Frame {
  readonly text: string
  readonly bytes: number
}

class WireEnd implements Wire {
  onText: (text: string) => void = () => undefined
  onClose: (code: number, reason: string) => void = () => undefined
  onDrain: () => void = () => undefined
  other: WireEnd | undefined
  #queue: Array<Frame> = []
  #bytes = 0
  #paused = false
  #scheduled = false
  #closing: { readonly code: number; readonly reason: string } | undefined

  /** Bytes that this end has sent and the other end has not received. */
  get backlog(): number {
    return this.other?.undelivered ?? 0
  }

  /** Bytes that the other end has sent and this end has not received. */
  get undelivered(): number {
    return this.#bytes
  }

  send(text: string | Uint8Array): void {
    this.other?.push(typeof text === "string" ? text : Buffer.from(text).toString())
  }

  push(text: string): void {
    if (this.#closing !== undefined) return
    const bytes = Buffer.byteLength(text)
    this.#queue.push({ text, bytes })
    this.#bytes += bytes
    this.#schedule()
  }

  close(code: number, reason: string): void {
    this.other?.receiveClose(code, reason)
    this.receiveClose(code, reason)
  }

  receiveClose(code: number, reason: string): void {
    if (this.#closing !== undefined) return
    this.#closing = { code, reason }
    this.#schedule()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    const before = this.#bytes
    for (let n = 0; n < BURST && !this.#paused; n++) {
      const frame = this.#queue.shift()
      if (frame === undefined) break
      this.#bytes -= frame.bytes
      this.onText(frame.text)
    }
    if (before > 0 && this.#bytes === 0) this.other?.onDrain()
    if (this.#closing !== undefined && (this.#queue.length === 0 || this.#paused)) {
      const { code, reason } = this.#closing
      const { onClose } = this
      this.onClose = () => undefined
      // an end that is paused may never resume, so it is told of the close now, and never gets what it has not read
      this.#queue = []
      return onClose(code, reason)
    }
    if (this.#queue.length > 0 && !this.#paused) this.#schedule()
  }
}

/** The two ends of a new connection: each receives what the other sends. */
export const makeWirePair = (): readonly [Wire, Wire] => {
  const a = new WireEnd()
  const b = new WireEnd()
  a.other = b
  b.other = a
  return [a, b]
}
