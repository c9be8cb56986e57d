/**
 * A connection that is opened again when it is lost, with a delay that grows. Its owner reads the frames, and
 * is told when the connection is lost and when it is open again.
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

/** Opens a connection, and calls `onOpened` or `onFailed`. Returns a function that aborts the attempt. */
export type Connect = (onOpened: (wire: Wire) => void, onFailed: (error: Error) => void) => () => void

const NORMAL_CLOSE_CODE = 1000
const PROTOCOL_ERROR = 1002

interface ReconnectingHooks {
  /** Called when the connection is open. */
  readonly onOpen: () => void
  /** Called when the connection is lost or closed. */
  readonly onLost: (error: Error) => void
  /** Called with each frame. If it throws, `onUnreadable` is called, and the connection is closed. */
  readonly onFrame: (text: string) => void
  /** Called when a frame could not be read, before the connection is closed. */
  readonly onUnreadable: (error: Error) => void
  /** Called with each new state. */
  readonly onState: (state: ConnectionState) => void
}

export class Reconnecting {
  readonly #dial: Connect
  readonly #alarm: Alarm
  readonly #now: () => number
  readonly #options: ReconnectOptions
  readonly #hooks: ReconnectingHooks
  #state: ConnectionState = "disconnected"
  #wire: Wire | undefined
  #attempt = 0
  #isClosed = false
  #abandonAttempt: (() => void) | undefined
  #cancelRetry: (() => void) | undefined
  #connecting: Promise<void> | undefined
  #isPaused = false

  constructor(
    dial: Connect,
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

  /** Whether the connection is closed for good. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  get isOpen(): boolean {
    return this.#wire !== undefined
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  connect(): Promise<void> {
    if (this.#isClosed) return Promise.reject(closedError())
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

  /** Stops reading from the connection, and from later ones. */
  pause(): void {
    this.#isPaused = true
    this.#wire?.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#wire?.resume()
  }

  /**
   * Closes the connection for good. `beforeNotice` is called when the connection already counts as closed, but
   * before the server and the observers are told so.
   */
  close(beforeNotice: () => void): void {
    this.#isClosed = true
    this.#cancelRetry?.()
    this.#abandonAttempt?.()
    const wire = this.#wire
    this.#lose(closedError())
    beforeNotice()
    wire?.close(NORMAL_CLOSE_CODE, "")
    this.#setState("disconnected")
  }

  #open(onOpened: () => void, onFailed: (error: Error) => void): void {
    this.#setState("connecting")
    let isOver = false
    const endAttempt = (): boolean => {
      if (isOver) return false
      isOver = true
      cancelTimeout()
      this.#abandonAttempt = undefined
      return true
    }
    const fail = (error: Error): void => {
      if (!endAttempt()) return
      this.#setState("disconnected")
      onFailed(error)
      this.#retry()
    }
    const { connectionTimeout } = this.#options
    const cancelTimeout = this.#alarm.at(this.#now() + connectionTimeout, () => {
      abortDial()
      fail(
        new ConnectionError(
          `The server did not accept the connection within ${showMs(connectionTimeout)}: check that it runs at \`serverUrl\`, ` +
            "or raise `connectionTimeout`"
        )
      )
    })
    const abortDial = this.#dial((wire) => {
      if (!endAttempt()) return wire.close(NORMAL_CLOSE_CODE, "")
      this.#attempt = 0
      this.#useWire(wire)
      onOpened()
    }, fail)
    this.#abandonAttempt = () => {
      if (!endAttempt()) return
      abortDial()
      onFailed(closedError())
    }
  }

  #useWire(wire: Wire): void {
    this.#wire = wire
    if (this.#isPaused) wire.pause()
    wire.onText = (text) => {
      try {
        this.#hooks.onFrame(text)
      } catch (error) {
        // a frame that cannot be read makes the connection useless
        this.#hooks.onUnreadable(toError(error))
        wire.onText = () => undefined
        wire.close(PROTOCOL_ERROR, "a frame could not be read")
        // the loss is handled now, since the server may take long to close the connection
        wire.onClose(PROTOCOL_ERROR, "")
      }
    }
    wire.onClose = (code) => {
      if (this.#wire !== wire) return
      this.#lose(
        new ConnectionError(
          "The connection to the server was lost. Events that were not settled are delivered again"
        )
      )
      this.#setState("disconnected")
      if (code !== NORMAL_CLOSE_CODE) this.#retry()
    }
    this.#setState("connected")
    this.#hooks.onOpen()
  }

  #lose(error: Error): void {
    this.#wire = undefined
    this.#hooks.onLost(error)
  }

  #retry(): void {
    if (this.#isClosed || !this.#options.autoReconnect || this.#cancelRetry !== undefined) return
    const { maxReconnectDelay, reconnectBackoff, reconnectDelay } = this.#options
    const delay = calculateBackoff(++this.#attempt, reconnectDelay, maxReconnectDelay, reconnectBackoff)
    this.#setState("reconnecting")
    this.#cancelRetry = this.#alarm.at(this.#now() + delay, () => {
      this.#cancelRetry = undefined
      // if this attempt fails, it schedules the next one itself
      this.connect().catch(() => undefined)
    })
  }

  #setState(state: ConnectionState): void {
    if (this.#state === state) return
    this.#state = state
    this.#hooks.onState(state)
  }
}

export const closedError = (): ClosedError => new ClosedError("subscription client")
