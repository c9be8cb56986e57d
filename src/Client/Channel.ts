/**
 * The client's side of a channel: a WebSocket that carries calls in place of HTTP requests. Its frames are
 * described in `Protocol/Http/Channel.ts`.
 *
 * A client opens a channel after a few calls, if the server advertises one. Calls go over HTTP until the
 * channel is open, while it is broken, and when it cannot carry the request. {@link layer} provides the
 * sockets; without this layer there are no channels.
 */
import type { Socket } from "node:net"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { WebSocket } from "ws"
import { ConnectionError, type TimeoutError } from "../Errors.ts"
import * as Alarm from "../Execution/Alarm.ts"
import { ShortLivedMap } from "../ShortLivedMap.ts"
import {
  CANCEL,
  encodeMessage,
  Frames,
  MAX_CALLS,
  MAX_TEXT,
  NOT_TAKEN,
  readFrame
} from "../Protocol/Http/Channel.ts"
import { environmentHeader, type ResolvedServer } from "./HttpOptions.ts"
import type { Answer, Request } from "./HttpExchange.ts"
import { TIMEOUT_PARTS } from "./PatientTimeout.ts"
import { NOT_RECEIVED } from "./NotReceived.ts"

/** The number of calls over HTTP after which a channel is opened. For fewer calls, its handshake costs too much. */
const CALLS_BEFORE_OPENING = 4
/** How long to wait before a broken channel is opened again, in milliseconds. */
const PAUSE_MS = 10_000
/** The interval between pings while calls wait for an answer, in milliseconds. */
const PING_MS = 10_000
/** The timeout for opening a channel, in milliseconds. */
const HANDSHAKE_MS = 10_000

/** Makes the channel of a server; `undefined` where channels are not available. */
export const Channels = Context.Reference<((server: ResolvedServer) => Channel) | undefined>(
  "@ironflow/node/Channels",
  { defaultValue: () => undefined }
)

/** Channels over real sockets. The sockets close with the layer. */
export const layer: Layer.Layer<never> = Layer.effect(
  Channels,
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const scheduleTimeout = yield* Alarm.makeScheduleTimeout
    const channels = new Set<Channel>()
    yield* Effect.addFinalizer(() => Effect.sync(() => channels.forEach((channel) => channel.close())))
    return (server) => {
      const channel = new Channel(
        server,
        () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
        scheduleTimeout
      )
      channels.add(channel)
      return channel
    }
  })
)

/**
 * Receives the answer to a call, or `undefined` when the connection broke first. `isNotReceived` says whether
 * it is certain that the server has not received the call.
 */
type AnswerHandler = (answer: Effect.Effect<Answer> | undefined, isNotReceived?: boolean) => void

/** An open socket and the calls on it. */
interface OpenConnection {
  readonly webSocket: WebSocket
  readonly socket: Socket
  readonly calls: ShortLivedMap<string, AnswerHandler>
  readonly frames: Frames
  ping: NodeJS.Timeout | undefined
  /** Whether a frame or a pong has arrived since the last ping. */
  hasHeard: boolean
  /** When the last frame or pong arrived, in milliseconds of the channel's clock. */
  heardAt: number
}

export class Channel {
  readonly #server: ResolvedServer
  readonly #now: () => number
  readonly #scheduleTimeout: Alarm.ScheduleTimeout
  #connection: OpenConnection | undefined
  #opening: WebSocket | undefined
  /** The time before which the channel is not opened (again), in milliseconds of the channel's clock. */
  #notBefore = Number.NEGATIVE_INFINITY
  #httpAnswers = 0
  #lastCallId = 0
  #isClosed = false

  /** `now` is the time of a monotonic clock, in milliseconds. */
  constructor(server: ResolvedServer, now: () => number, scheduleTimeout: Alarm.ScheduleTimeout) {
    this.#server = server
    this.#now = now
    this.#scheduleTimeout = scheduleTimeout
  }

  /**
   * Called after each answer over HTTP. `path` is the path of the server's channel, if the answer advertises
   * one.
   */
  onHttpAnswer(path: string | undefined): void {
    this.#httpAnswers++
    if (path === undefined || this.#isClosed || this.#connection !== undefined || this.#opening !== undefined)
      return
    if (this.#httpAnswers < CALLS_BEFORE_OPENING || this.#now() < this.#notBefore) return
    // if the channel does not open, calls go on over HTTP
    this.#open(path).catch(() => undefined)
  }

  /**
   * Sends a request over the channel. Returns `undefined` when the request has to go over HTTP. The Effect
   * fails with the error that `makeTimeoutError` makes when there is no answer after `timeoutMs`.
   */
  send(
    request: Request,
    timeoutMs: number,
    makeTimeoutError: () => TimeoutError
  ): Effect.Effect<Answer, ConnectionError | TimeoutError> | undefined {
    const connection = this.#connection
    if (connection === undefined || connection.calls.size >= MAX_CALLS) return undefined
    const { body = "", contentType, headers, method, path, trace, what } = request
    if (headers !== undefined || contentType !== undefined) return undefined
    if (typeof body !== "string" || body.length > MAX_TEXT) return undefined
    return Effect.callback((resume) => {
      // the connection may have closed before this Effect runs
      if (this.#connection !== connection) return resume(Effect.fail(this.#brokenError(what, true)))
      const id = String(++this.#lastCallId)
      if (connection.calls.size === 0) this.#becomeBusy(connection)
      const cancelCall = (): void => {
        if (!connection.calls.delete(id)) return
        connection.frames.add(encodeMessage(`${id} ${CANCEL} -`, ""))
        if (connection.calls.size === 0) this.#becomeIdle(connection)
      }
      const sentAt = this.#now()
      const giveUp = (): void => {
        if (!connection.calls.has(id)) return
        cancelCall()
        // if nothing has arrived since the call was sent, the connection counts as dead and is closed, so
        // that the next call does not wait on it too
        if (connection.heardAt < sentAt) connection.webSocket.terminate()
        resume(Effect.fail(makeTimeoutError()))
      }
      // as in `PatientTimeout.ts`, the timeout runs in parts, and ends with `setImmediate`, so that an answer that
      // has arrived while the process was blocked is read first
      let cancelTimeout = (): void => undefined
      const wait = (parts: number): void => {
        cancelTimeout = this.#scheduleTimeout(timeoutMs / TIMEOUT_PARTS, () =>
          parts === 1 ? void setImmediate(giveUp) : wait(parts - 1)
        )
      }
      wait(TIMEOUT_PARTS)
      connection.calls.set(id, (answer, isNotReceived = false) => {
        cancelTimeout()
        resume(answer ?? Effect.fail(this.#brokenError(what, isNotReceived)))
      })
      connection.frames.add(
        encodeMessage(`${id} ${method} ${path}${trace === undefined ? "" : ` ${trace}`}`, body)
      )
      return Effect.sync(() => {
        cancelTimeout()
        cancelCall()
      })
    })
  }

  /**
   * Stops using the channel, which was opened with a key that calls no longer use. Calls go over HTTP until a
   * new channel is open.
   */
  leave(): void {
    this.#opening?.terminate()
    const connection = this.#connection
    this.#connection = undefined
    // a connection with pending calls stays open until these calls have their answers
    if (connection !== undefined && connection.calls.size === 0) connection.webSocket.close(1000)
  }

  close(): void {
    this.#isClosed = true
    this.#opening?.terminate()
    this.#connection?.webSocket.close(1000)
    // the process does not wait for a server that does not close the socket
    this.#connection?.socket.unref()
  }

  async #open(path: string): Promise<void> {
    const { apiKey, url } = this.#server
    this.#notBefore = this.#now() + PAUSE_MS
    const { WebSocket } = await import("ws")
    if (this.#isClosed || this.#opening !== undefined) return
    const webSocket = new WebSocket(url.replace(/^http/, "ws") + path, {
      perMessageDeflate: false,
      handshakeTimeout: HANDSHAKE_MS,
      headers: {
        ...environmentHeader(this.#server),
        ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` })
      }
    })
    this.#opening = webSocket
    webSocket.once("upgrade", (response) => {
      this.#opening = undefined
      // Some runtimes do not expose the socket. An idle channel would then keep the process alive, so calls go on
      // over HTTP.
      const socket: Socket | null = response.socket
      if (socket !== null) return this.#useSocket(webSocket, socket)
      this.#notBefore = Number.POSITIVE_INFINITY
      webSocket.terminate()
    })
    // calls go over HTTP while the channel is not open, and fail there if the server cannot be reached
    webSocket.on("error", () => undefined)
    webSocket.once("close", () => {
      if (this.#opening === webSocket) this.#opening = undefined
    })
  }

  #useSocket(webSocket: WebSocket, socket: Socket): void {
    const connection: OpenConnection = {
      webSocket,
      socket,
      calls: new ShortLivedMap(),
      frames: new Frames((frame) => webSocket.send(frame)),
      ping: undefined,
      hasHeard: true,
      heardAt: this.#now()
    }
    webSocket.once("open", () => {
      if (this.#isClosed) return webSocket.terminate()
      this.#connection = connection
      this.#becomeIdle(connection)
    })
    webSocket.on("message", (data) => {
      connection.hasHeard = true
      connection.heardAt = this.#now()
      const isWellFormed = readFrame(String(data), ([id = "", status = ""], text) => {
        const handleAnswer = connection.calls.get(id)
        if (handleAnswer === undefined) return
        connection.calls.delete(id)
        // a call whose answer has an invalid status fails as if the connection had broken
        handleAnswer(
          /^[1-5]\d\d$/.test(status) ? Effect.succeed({ status: Number(status), text }) : undefined
        )
      })
      if (!isWellFormed) webSocket.terminate()
      if (connection.calls.size === 0) {
        this.#becomeIdle(connection)
        if (this.#connection !== connection) webSocket.close(1000)
      }
    })
    webSocket.on("pong", () => {
      connection.hasHeard = true
      connection.heardAt = this.#now()
    })
    webSocket.once("close", (_code, reason) => {
      if (this.#connection === connection) this.#connection = undefined
      this.#becomeIdle(connection)
      const calls = [...connection.calls]
      connection.calls.clear()
      const isNotReceived = String(reason).endsWith(NOT_TAKEN)
      for (const [, handleAnswer] of calls) handleAnswer(undefined, isNotReceived)
    })
  }

  /**
   * Called before a call is sent while no other is pending: keeps the process alive, and sends pings to notice a
   * dead server.
   */
  #becomeBusy(connection: OpenConnection): void {
    // the code that receives the answer to the last call may send the next call before `#becomeIdle` is called:
    // then the pings still run
    if (connection.ping !== undefined) return
    connection.socket.ref()
    connection.hasHeard = true
    connection.ping = setInterval(() => {
      if (!connection.hasHeard) return connection.webSocket.terminate()
      connection.hasHeard = false
      connection.webSocket.ping()
    }, PING_MS)
  }

  /** Called when no call is pending, or the connection has closed: the channel must not keep the process alive. */
  #becomeIdle(connection: OpenConnection): void {
    clearInterval(connection.ping)
    connection.ping = undefined
    connection.socket.unref()
  }

  #brokenError(what: string, isNotReceived: boolean): ConnectionError {
    const failed = `${what} failed: the Ironflow server at ${this.#server.url} closed the connection before it`
    return isNotReceived
      ? new ConnectionError(`${failed} received the request. It may have been stopped`, {
          details: NOT_RECEIVED
        })
      : new ConnectionError(
          `${failed} answered. It may have been stopped; the request may have been carried out`
        )
  }
}
