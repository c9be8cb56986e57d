/** Both ends of a connection inside the process. Frames arrive in later turns of the event loop, like those of a socket. */
import type { Wire } from "../../Protocol/Subscriptions.ts"
import { setImmediate } from "../../RealTimers.ts"

/** Frames that are passed on before others get a turn. */
const BURST = 256

class End implements Wire {
  onText: (text: string) => void = () => undefined
  onClose: (code: number, reason: string) => void = () => undefined
  onDrain: () => void = () => undefined
  other: End | undefined
  #queue: Array<string> = []
  #bytes = 0
  #paused = false
  #scheduled = false
  #closed: { readonly code: number; readonly reason: string } | undefined

  /** Bytes that the other end has not taken. */
  get backlog(): number {
    return this.other?.waiting ?? 0
  }

  get waiting(): number {
    return this.#bytes
  }

  send(text: string | Uint8Array): void {
    this.other?.push(typeof text === "string" ? text : Buffer.from(text).toString())
  }

  push(text: string): void {
    if (this.#closed !== undefined) return
    this.#queue.push(text)
    this.#bytes += text.length
    this.#schedule()
  }

  close(code: number, reason: string): void {
    this.other?.closed(code, reason)
    this.closed(code, reason)
  }

  closed(code: number, reason: string): void {
    if (this.#closed !== undefined) return
    this.#closed = { code, reason }
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
      const text = this.#queue.shift()
      if (text === undefined) break
      this.#bytes -= text.length
      this.onText(text)
    }
    if (before > 0 && this.#bytes === 0) this.other?.onDrain()
    if (this.#closed !== undefined && (this.#queue.length === 0 || this.#paused)) {
      const { code, reason } = this.#closed
      const { onClose } = this
      this.onClose = () => undefined
      this.#queue = []
      return onClose(code, reason)
    }
    if (this.#queue.length > 0 && !this.#paused) this.#schedule()
  }
}

export const makeWires = (): readonly [Wire, Wire] => {
  const a = new End()
  const b = new End()
  a.other = b
  b.other = a
  return [a, b]
}
