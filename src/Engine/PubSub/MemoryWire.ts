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
  otherEnd: WireEnd | undefined
  #queue: Array<Frame> = []
  #bytes = 0
  #isPaused = false
  #isScheduled = false
  #closing: { readonly code: number; readonly reason: string } | undefined

  /** Bytes that this end has sent and the other end has not received. */
  get backlog(): number {
    return this.otherEnd?.undelivered ?? 0
  }

  /** Bytes that the other end has sent and this end has not received. */
  get undelivered(): number {
    return this.#bytes
  }

  send(text: string | Uint8Array): void {
    this.otherEnd?.push(typeof text === "string" ? text : Buffer.from(text).toString())
  }

  push(text: string): void {
    if (this.#closing !== undefined) return
    const bytes = Buffer.byteLength(text)
    this.#queue.push({ text, bytes })
    this.#bytes += bytes
    this.#schedule()
  }

  close(code: number, reason: string): void {
    this.otherEnd?.receiveClose(code, reason)
    this.receiveClose(code, reason)
  }

  receiveClose(code: number, reason: string): void {
    if (this.#closing !== undefined) return
    this.#closing = { code, reason }
    this.#schedule()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    const bytesBefore = this.#bytes
    for (let n = 0; n < BURST && !this.#isPaused; n++) {
      const frame = this.#queue.shift()
      if (frame === undefined) break
      this.#bytes -= frame.bytes
      this.onText(frame.text)
    }
    if (bytesBefore > 0 && this.#bytes === 0) this.otherEnd?.onDrain()
    if (this.#closing !== undefined && (this.#queue.length === 0 || this.#isPaused)) {
      const { code, reason } = this.#closing
      const { onClose } = this
      this.onClose = () => undefined
      // an end that is paused may never resume: it is told now that the wire is closed, and never gets the frames that it has not
      // read
      this.#queue = []
      return onClose(code, reason)
    }
    if (this.#queue.length > 0 && !this.#isPaused) this.#schedule()
  }
}

/** The two ends of a new connection: each receives what the other sends. */
export const makeWirePair = (): readonly [Wire, Wire] => {
  const a = new WireEnd()
  const b = new WireEnd()
  a.otherEnd = b
  b.otherEnd = a
  return [a, b]
}
