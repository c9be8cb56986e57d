/**
 * A connection that is opened again when it is lost, after a delay that grows with each attempt. What travels on it is for whoever has
 * it; it hears of each end and each new beginning.
 */
import { calculateBackoff } from "../Backoff.ts"
import { ClosedError, ConnectionError, toError } from "../Errors.ts"
import type { Alarm } from "../Execution/Alarm.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import { showMs } from "../Show.ts"
import type { ConnectionState } from "./SubscriptionCallbacks.ts"

export interface ReconnectOptions {
  readonly autoReconnect: boolean
  readonly reconnectDelay: number
  readonly maxReconnectDelay: number
  readonly reconnectBackoff: number
  readonly connectionTimeout: number
}

/** Opens a connection: calls `opened` with it, or `failed`. Returns the way to give up. */
export type Dial = (opened: (wire: Wire) => void, failed: (error: Error) => void) => () => void

const NORMAL = 1000
const PROTOCOL_ERROR = 1002

interface ReconnectingHooks {
  /** There is a connection. */
  readonly opened: () => void
  /** It is gone. */
  readonly lost: (error: Error) => void
  /** A frame has come. What this throws ends the connection. */
  readonly hear: (text: string) => void
  /** A frame has come that makes no sense: the connection is given up. */
  readonly broken: (error: Error) => void
  readonly became: (state: ConnectionState) => void
}

export class Reconnecting {
  readonly #dial: Dial
  readonly #alarm: Alarm
  readonly #now: () => number
  readonly #options: ReconnectOptions
  readonly #hooks: ReconnectingHooks
  #state: ConnectionState = "disconnected"
  #wire: Wire | undefined
  #attempt = 0
  #closed = false
  #abandon: (() => void) | undefined
  #cancelRetry: (() => void) | undefined
  #connecting: Promise<void> | undefined
  #paused = false

  constructor(
    dial: Dial,
    alarm: Alarm,
    now: () => number,
    options: ReconnectOptions,
    hooks: ReconnectingHooks
  ) {
    this.#dial = dial
    this.#alarm = alarm
    this.#now = now
    this.#options = options
    this.#hooks = hooks
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** Whether it is ended for good. */
  get isClosed(): boolean {
    return this.#closed
  }

  get isOpen(): boolean {
    return this.#wire !== undefined
  }

  get isPaused(): boolean {
    return this.#paused
  }

  connect(): Promise<void> {
    if (this.#closed) return Promise.reject(closed())
    if (this.#state === "connected") return Promise.resolve()
    this.#cancelRetry?.()
    this.#cancelRetry = undefined
    return (this.#connecting ??= new Promise<void>((resolve, reject) => this.#open(resolve, reject)).finally(
      () => (this.#connecting = undefined)
    ))
  }

  send(text: string): void {
    this.#wire?.send(text)
  }

  /** Takes no more from the connection, nor from the next one. */
  pause(): void {
    this.#paused = true
    this.#wire?.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#wire?.resume()
  }

  /** Ends it for good. `end` is called when it is gone, before the other side and those who look on hear of that. */
  close(end: () => void): void {
    this.#closed = true
    this.#cancelRetry?.()
    this.#abandon?.()
    const wire = this.#wire
    this.#lose(closed())
    end()
    wire?.close(NORMAL, "")
    this.#become("disconnected")
  }

  #open(opened: () => void, failed: (error: Error) => void): void {
    this.#become("connecting")
    let over = false
    const end = (): boolean => {
      if (over) return false
      over = true
      cancelTimeout()
      this.#abandon = undefined
      return true
    }
    const fail = (error: Error): void => {
      if (!end()) return
      this.#become("disconnected")
      failed(error)
      this.#retry()
    }
    const { connectionTimeout } = this.#options
    const cancelTimeout = this.#alarm.at(this.#now() + connectionTimeout, () => {
      giveUp()
      fail(
        new ConnectionError(`The server did not accept the connection within ${showMs(connectionTimeout)}`)
      )
    })
    const giveUp = this.#dial((wire) => {
      if (!end()) return wire.close(NORMAL, "")
      this.#attempt = 0
      this.#take(wire)
      opened()
    }, fail)
    this.#abandon = () => {
      if (!end()) return
      giveUp()
      failed(closed())
    }
  }

  #take(wire: Wire): void {
    this.#wire = wire
    if (this.#paused) wire.pause()
    wire.onText = (text) => {
      try {
        this.#hooks.hear(text)
      } catch (error) {
        // nothing that a server says gets further: a connection on which it makes no sense is of no use
        this.#hooks.broken(toError(error))
        wire.onText = () => undefined
        wire.close(PROTOCOL_ERROR, "a frame could not be read")
        // the other side may take its time
        wire.onClose(PROTOCOL_ERROR, "")
      }
    }
    wire.onClose = (code) => {
      if (this.#wire !== wire) return
      this.#lose(
        new ConnectionError("The connection was lost: the server delivers again what was not settled")
      )
      this.#become("disconnected")
      if (code !== NORMAL) this.#retry()
    }
    this.#become("connected")
    this.#hooks.opened()
  }

  #lose(error: Error): void {
    this.#wire = undefined
    this.#hooks.lost(error)
  }

  #retry(): void {
    if (this.#closed || !this.#options.autoReconnect || this.#cancelRetry !== undefined) return
    const { maxReconnectDelay, reconnectBackoff, reconnectDelay } = this.#options
    const delay = calculateBackoff(++this.#attempt, reconnectDelay, maxReconnectDelay, reconnectBackoff)
    this.#become("reconnecting")
    this.#cancelRetry = this.#alarm.at(this.#now() + delay, () => {
      this.#cancelRetry = undefined
      // what it fails with is followed by the next attempt
      this.connect().catch(() => undefined)
    })
  }

  #become(state: ConnectionState): void {
    if (this.#state === state) return
    this.#state = state
    this.#hooks.became(state)
  }
}

export const closed = (): ClosedError => new ClosedError("subscription client")
