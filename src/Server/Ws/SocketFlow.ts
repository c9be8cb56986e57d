/**
 * Passes the data of a WebSocket on in small pieces, as time allows: thousands of frames may arrive at once.
 * Nothing is read from a client that does not read its messages. A large frame that arrives slowly takes part
 * of the memory that all connections share.
 */
import type { Duplex } from "node:stream"
import type { WebSocket } from "ws"
import type { ScheduleTimeout } from "../../Execution/Alarm.ts"
import type { PendingInput, InputBudget } from "../../Engine/InputBudget.ts"
import { hasTime, type WorkKind, isWorkWaiting, callWhenTime } from "../../Engine/EventLoop.ts"
import { MAX_BUFFER } from "../../Protocol/Subscriptions.ts"
import {
  CONNECTION_UNREAD_BYTES,
  type SendBuffer,
  type UnreadMemory,
  UNREAD_MS
} from "../Http/UnreadResponses.ts"
import { showMs } from "../../Show.ts"

export interface FlowOptions {
  readonly inputBudget: InputBudget
  readonly unread: UnreadMemory
  readonly scheduleTimeout: ScheduleTimeout
  /** How long a large frame may take to arrive, in milliseconds. */
  readonly timeoutMs: number
}

/** How many bytes are passed on at once: some hundred frames, or a part of one. */
const PIECE_BYTES = 4096

/** A frame of at most this many bytes takes no shared memory. */
const SMALL_BYTES = 64 * 1024

/** The close code that asks the client to come back later. */
const TRY_AGAIN_LATER = 1013
const POLICY_VIOLATION = 1008

/** How long a client may take to close its socket, in milliseconds. */
const GRACE_MS = 1000

export class Flow {
  readonly #options: FlowOptions
  readonly #webSocket: WebSocket
  readonly #socket: Duplex
  readonly #maxUnread: number
  readonly #listeners: ReadonlyArray<(chunk: Buffer) => void>
  readonly #sendBuffer: SendBuffer
  /** The reasons for which nothing is passed on now. */
  readonly #pauseReasons = new Set<object>()
  /** The bytes that were received and not passed on. */
  #rest: Buffer = Buffer.alloc(0)
  /** Whether the rest will be passed on as soon as there is time. */
  #isDue = false
  /** Whether the last chunk was passed on in one turn of the event loop. */
  #keepsUp = false
  #isGone = false
  /** How many bytes of an incomplete frame were passed on. */
  #frameBytes = 0
  #input: PendingInput | undefined
  #cancelDeadline: () => void = () => undefined
  #readListeners: Array<() => void> = []
  #cancelUnread: () => void = () => undefined

  /** Takes over a socket that `ws` already listens to. The client may leave `maxUnread` bytes unread. */
  constructor(
    webSocket: WebSocket,
    socket: Duplex,
    options: FlowOptions,
    maxUnread: number = CONNECTION_UNREAD_BYTES
  ) {
    this.#options = options
    this.#webSocket = webSocket
    this.#socket = socket
    this.#maxUnread = maxUnread
    this.#sendBuffer = options.unread.sendBuffer(() => webSocket.terminate())
    this.#listeners = socket.listeners("data") as Array<(chunk: Buffer) => void>
    for (const listener of this.#listeners) socket.off("data", listener)
    socket.on("data", (chunk: Buffer) => this.#onData(chunk))
    // Drops the data that is not read yet. `ws` would parse all of it at once, perhaps for hundreds of
    // connections, although nobody is left to answer.
    socket.prependListener("close", () => {
      this.#isGone = true
      while (socket.read() !== null);
    })
    socket.on("drain", () => this.#onAllRead())
    for (const event of ["message", "ping", "pong"] as const) webSocket.on(event, () => this.#onWholeFrame())
    webSocket.once("close", () => {
      this.#onWholeFrame()
      this.#rest = Buffer.alloc(0)
      this.#cancelUnread()
      this.#sendBuffer.set(0)
    })
  }

  /** Whether the client has left so much unread that nothing should be added. */
  get hasTooMuchUnread(): boolean {
    return this.#socket.writableLength > this.#maxUnread
  }

  /**
   * Notes the size of a backlog, and returns the size that the backlog counts as. When memory is short, the returned
   * size is at least the largest backlog that any subscription accepts, so that nothing more is sent.
   */
  weigh(bytes: number): number {
    this.#sendBuffer.set(bytes > SMALL_BYTES ? bytes : 0)
    return bytes > 0 && this.#options.unread.isPressed ? Math.max(bytes, MAX_BUFFER) : bytes
  }

  /** Returns whether there is room for a response of this size. May end other connections to make room. */
  makeRoomFor(bytes: number): boolean {
    return this.#options.unread.makeRoomFor(bytes)
  }

  /** Notes that something was sent. */
  onSent(): void {
    this.weigh(this.#socket.writableLength)
  }

  /** Calls `f` when the client has read everything. A client that does not read at all loses its connection. */
  whenRead(f: () => void): void {
    this.#readListeners.push(f)
    if (this.#readListeners.length > 1) return
    const unreadBytes = this.#socket.writableLength
    this.#cancelUnread = this.#options.scheduleTimeout(UNREAD_MS, () => {
      if (this.#socket.writableLength >= unreadBytes) return this.#webSocket.terminate()
      const listeners = this.#readListeners
      this.#readListeners = []
      for (const listener of listeners) this.whenRead(listener)
    })
  }

  /** Stops passing data on, until `resume` was called with the `reason` of each pause. */
  pause(reason: object): void {
    this.#pauseReasons.add(reason)
    this.#socket.pause()
  }

  resume(reason: object): void {
    if (this.#pauseReasons.delete(reason) && this.#pauseReasons.size === 0)
      this.#goOn(this.#keepsUp ? "little" : "rest")
  }

  #onAllRead(): void {
    this.#cancelUnread()
    this.#sendBuffer.set(0)
    const listeners = this.#readListeners
    this.#readListeners = []
    for (const listener of listeners) listener()
  }

  #onData(chunk: Buffer): void {
    if (this.#isGone) return
    const isPaused = this.#pauseReasons.size > 0
    if (!isPaused && !this.#isDue && !isWorkWaiting() && hasTime()) return this.#feed(chunk)
    const isLittle = this.#rest.length === 0 && (this.#keepsUp || chunk.length <= PIECE_BYTES)
    this.#rest = Buffer.concat([this.#rest, chunk])
    this.#socket.pause()
    if (!isPaused) this.#goOn(isLittle ? "little" : "rest")
  }

  #feed(chunk: Buffer): void {
    this.#rest = chunk
    this.#keepsUp = true
    while (this.#rest.length > 0) {
      const piece = this.#rest.subarray(0, PIECE_BYTES)
      this.#rest = this.#rest.subarray(piece.length)
      this.#frameBytes += piece.length
      for (const listener of this.#listeners) Reflect.apply(listener, this.#socket, [piece])
      if (this.#socket.destroyed) return
      if (this.#frameBytes > SMALL_BYTES) this.#countFrameBytes()
      if (this.hasTooMuchUnread) this.#waitUntilRead()
      if (this.#pauseReasons.size > 0) return
      if (this.#rest.length > 0 && !hasTime()) {
        this.#keepsUp = false
        this.#socket.pause()
        return this.#goOn("rest")
      }
    }
  }

  #waitUntilRead(): void {
    const reason = {}
    this.pause(reason)
    this.whenRead(() => this.resume(reason))
  }

  #goOn(kind: WorkKind): void {
    if (this.#isDue) return
    this.#isDue = true
    callWhenTime(kind, () => {
      this.#isDue = false
      if (this.#pauseReasons.size > 0 || this.#socket.destroyed) return
      this.#feed(this.#rest)
      if (this.#pauseReasons.size === 0 && !this.#isDue) this.#socket.resume()
    })
  }

  /** Counts the bytes of an incomplete frame against the memory that all connections share. */
  #countFrameBytes(): void {
    this.#input ??= this.#beginInput()
    this.#input.setHeld(this.#frameBytes)
  }

  #beginInput(): PendingInput {
    const { inputBudget, scheduleTimeout, timeoutMs } = this.#options
    const pauseReason = {}
    const end = (code: number, reason: string): void => {
      this.#webSocket.close(code, reason)
      setTimeout(() => this.#webSocket.terminate(), GRACE_MS).unref()
      this.#rest = Buffer.alloc(0)
      this.pause(pauseReason)
    }
    this.#cancelDeadline = scheduleTimeout(timeoutMs, () =>
      end(POLICY_VIOLATION, `a frame did not arrive within ${showMs(timeoutMs)}`)
    )
    return inputBudget.begin(this.#socket, {
      pause: () => this.pause(pauseReason),
      resume: () => this.resume(pauseReason),
      refuse: (error) => end(TRY_AGAIN_LATER, error.code)
    })
  }

  #onWholeFrame(): void {
    this.#frameBytes = 0
    if (this.#input === undefined) return
    this.#cancelDeadline()
    this.#input.end()
    this.#input = undefined
  }
}
