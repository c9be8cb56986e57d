/**
 * A watch of keys or of a configuration, over a WebSocket. After a lost connection the watch waits, reconnects,
 * and continues after the last revision that it has seen. When the consumer is slow, the socket is not read, so
 * that frames do not pile up in memory.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { IncomingMessage } from "node:http"
import type { WebSocket } from "ws"
import { calculateBackoff } from "../Backoff.ts"
import { longestTimerMs } from "../Duration.ts"
import { ConnectionError, type IronflowError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { checkRevision } from "../KvKeys.ts"
import { reader } from "../Protocol/Codec.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import { readFailure } from "../Protocol/Http/Failures.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import { Watching } from "../Protocol/Watch.ts"
import { validated } from "../CheckAsEffect.ts"
import { environmentHeader } from "./HttpOptions.ts"
import type { Connection } from "./HttpConnection.ts"
import { failureOf, isCallMissing, unsupportedError } from "./HttpFailures.ts"
import { tlsProblem } from "./TlsMismatch.ts"

interface WatchOptions<A> {
  /** Path, with a leading slash. */
  readonly path: string
  readonly query: { readonly [name: string]: string | undefined }
  /** The call, as the start of a sentence in messages. */
  readonly what: string
  readonly fromRevision: number | undefined
  readonly onOpen: ((revision: number) => void) | undefined
  /** Makes the error for a 404, for servers that do not send an error of their own. */
  readonly notFound: () => IronflowError
  /** Reads the change in a frame; `undefined` for a frame without a change. */
  readonly read: (frame: Frame) => { readonly revision: number; readonly change: A } | undefined
}

type Frame = { readonly [name: string]: unknown }

/** The delays before reconnections: the first, the longest, and the factor by which they grow. */
const RECONNECT = { firstMs: 250, longestMs: 30_000, factor: 2 }
/** How many frames may wait in this process before reading from the socket pauses. */
const MAX_WAITING_FRAMES = 64
/**
 * How long to wait for the frame that opens the watch, in milliseconds. After this time the watch counts as open
 * without such a frame, since some servers send none.
 */
const MAX_OPENING_MS = 1000

const watch = <A>(connection: Connection, options: WatchOptions<A>): Stream.Stream<A, IronflowError> =>
  Stream.callback<A, IronflowError>(
    (queue) => Effect.catch(follow(connection, queue, options), (error) => Queue.fail(queue, error)),
    { bufferSize: 16, strategy: "suspend" }
  )

/** Streams the changes of a watch operation. */
export const watchOf = <A extends { readonly revision: number }, B>(
  connection: Connection,
  operation: Operation<A>,
  {
    subject,
    change,
    fromRevision,
    onOpen,
    query = {},
    requestMembers,
    variables,
    what
  }: {
    /** The call as the user wrote it, for messages. */
    readonly what: string
    /** The name of the bucket or the configuration, for the error when it does not exist. */
    readonly subject: string
    /** The path variables. Throws `ValidationError` for invalid ones. */
    readonly variables: () => { readonly [name: string]: string }
    readonly query?: { readonly [name: string]: string | undefined }
    readonly fromRevision?: number
    readonly onOpen?: (revision: number) => void
    /** Members of the request that each frame should repeat: they are filled in for servers that leave them out. */
    readonly requestMembers: object
    /** Converts the change in a frame. */
    readonly change: (frame: A) => B
  }
): Stream.Stream<B, IronflowError> => {
  const { answer, notFoundError } = operation
  const read = reader<A>(answer!)
  return Stream.unwrap(
    Effect.map(
      validated(() => {
        if (fromRevision !== undefined) checkRevision(fromRevision, 0)
        return pathOf(operation, variables())
      }),
      (path) =>
        watch<B>(connection, {
          path,
          query,
          what,
          fromRevision,
          onOpen,
          notFound: () => new notFoundError!(subject),
          read: (frame) => {
            const sentFrame = read({ ...requestMembers, ...frame })
            return sentFrame === undefined
              ? undefined
              : { revision: sentFrame.revision, change: change(sentFrame) }
          }
        })
    )
  )
}

/** What has happened to a connection. After `Lost`, the watch reconnects, unless `isFinal` is true. */
type Signal =
  | { readonly _tag: "Open" }
  /** `MAX_OPENING_MS` have passed since the connection was opened. */
  | { readonly _tag: "OpeningTimedOut" }
  | { readonly _tag: "Frame"; readonly frame: Frame }
  | { readonly _tag: "Lost"; readonly error: IronflowError; readonly isFinal: boolean }

const follow = <A>(
  connection: Connection,
  queue: Queue.Queue<A, IronflowError | Cause.Done>,
  options: WatchOptions<A>
): Effect.Effect<never, IronflowError> =>
  Effect.gen(function* () {
    const { WebSocket } = yield* Effect.promise(() => import("ws"))
    let lastRevision = options.fromRevision
    let wasOpen = false
    let failures = 0

    const followUntilLost = Effect.acquireUseRelease(
      Effect.gen(function* () {
        const signals = yield* Queue.unbounded<Signal>()
        const socket = new WebSocket(urlOf(connection, options, lastRevision), {
          headers: headersOf(connection),
          handshakeTimeout: connection.server.timeoutMs
        })
        listen(connection, options.what, options.notFound, socket, signals)
        return { inbox: signals, socket }
      }),
      ({ inbox: signals, socket }) =>
        Effect.gen(function* () {
          let isOpenReported = false
          const reportOpen = (revision: number): void => {
            if (isOpenReported) return
            isOpenReported = true
            options.onOpen?.(revision)
          }
          const startAfter = (revision: number): void => {
            lastRevision ??= revision
            reportOpen(lastRevision)
          }
          while (true) {
            const signal: Signal = yield* Queue.take(signals)
            switch (signal._tag) {
              case "Open":
                wasOpen = true
                failures = 0
                yield* Effect.forkChild(
                  Effect.andThen(
                    Effect.sleep(MAX_OPENING_MS),
                    Queue.offer(signals, { _tag: "OpeningTimedOut" })
                  )
                )
                break
              case "OpeningTimedOut":
                // Where the watch starts is still unknown. If 0 were kept as its start, a server that was only slow would
                // send all changes since the beginning after the next reconnection.
                reportOpen(lastRevision ?? 0)
                break
              case "Lost":
                return signal
              case "Frame": {
                const { frame } = signal
                const opening = readWatching(frame)
                if (opening !== undefined) startAfter(opening.revision)
                const read = options.read(frame)
                if (read !== undefined && (lastRevision === undefined || read.revision > lastRevision)) {
                  startAfter(read.revision)
                  lastRevision = read.revision
                  yield* Queue.offer(queue, read.change)
                }
              }
            }
            if (socket.isPaused && (yield* Queue.size(signals)) === 0) socket.resume()
          }
        }),
      ({ socket }) =>
        Effect.sync(() => {
          socket.removeAllListeners()
          // a socket that is closed before it has opened emits an error
          socket.on("error", () => undefined)
          if (socket.readyState === socket.OPEN) socket.close()
          else socket.terminate()
        })
    )

    while (true) {
      const { error, isFinal } = yield* followUntilLost
      if (isFinal || !wasOpen) return yield* Effect.fail(error)
      failures++
      yield* Effect.sleep(
        calculateBackoff(failures, RECONNECT.firstMs, RECONNECT.longestMs, RECONNECT.factor)
      )
    }
  })

const readWatching = reader(Watching)

const urlOf = <A>(
  { server }: Connection,
  { path, query }: WatchOptions<A>,
  lastRevision: number | undefined
): string => {
  const search = new URLSearchParams({ revision: lastRevision === undefined ? "now" : String(lastRevision) })
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, value)
  return `${server.url.replace(/^http/, "ws")}${path}?${search}`
}

const headersOf = ({ server }: Connection): Record<string, string> => ({
  ...environmentHeader(server),
  ...(server.apiKey === undefined ? {} : { authorization: `Bearer ${server.apiKey}` })
})

const listen = (
  { server }: Connection,
  what: string,
  notFound: () => IronflowError,
  socket: WebSocket,
  signals: Queue.Queue<Signal>
): void => {
  let watchdog: { readonly ms: number; timer: NodeJS.Timeout } | undefined
  const send = (signal: Signal): void => void Queue.offerUnsafe(signals, signal)
  const sendLost = (problem: string): void =>
    send({
      _tag: "Lost",
      error: new ConnectionError(`${what}: the connection to ${server.url} ${problem}`),
      isFinal: false
    })
  // a connection on which nothing arrives for `ms` counts as dead; the watchdog uses real time, as sockets do, and
  // not the clock of a test
  const restartWatchdog = (ms: number): void => {
    clearTimeout(watchdog?.timer)
    watchdog = { ms, timer: setTimeout(() => socket.terminate(), Math.min(ms, longestTimerMs)) }
    watchdog.timer.unref()
  }
  socket.on("open", () => send({ _tag: "Open" }))
  socket.on("ping", () => watchdog !== undefined && restartWatchdog(watchdog.ms))
  socket.on("message", (data) => {
    if (watchdog !== undefined) restartWatchdog(watchdog.ms)
    const frame = safeJsonParse(String(data))
    if (!isObject(frame)) return
    if (frame.type === "error") {
      const { status, ...failure } = frame
      const error = readFailure(typeof status === "number" ? status : 500, JSON.stringify(failure), what)
      return send({ _tag: "Lost", error, isFinal: true })
    }
    const pingMs = readWatching(frame)?.pingMs
    if (pingMs !== undefined) restartWatchdog(pingMs * 3)
    send({ _tag: "Frame", frame })
    if (Queue.sizeUnsafe(signals) > MAX_WAITING_FRAMES) socket.pause()
  })
  socket.on("unexpected-response", (_, response) => readRefusal(response))
  socket.on("error", (error) => {
    const tlsReason = tlsProblem(server.url, error)
    sendLost(
      `failed: ${tlsReason === undefined ? error.message || String(error) : `the server ${tlsReason}`}`
    )
  })
  socket.on("close", (code) => {
    clearTimeout(watchdog?.timer)
    sendLost(`was closed (${code})`)
  })

  const readRefusal = (response: IncomingMessage): void => {
    let text = ""
    response.setEncoding("utf8").on("data", (part: string) => {
      if (text.length < 64 * 1024) text += part
    })
    response.on("end", () => {
      const answer = { status: response.statusCode ?? 500, text }
      const error = isCallMissing(answer)
        ? unsupportedError(server.url, what, "Read again from time to time instead", answer.status)
        : failureOf(answer, what, notFound)
      send({ _tag: "Lost", error, isFinal: !(error instanceof ConnectionError) })
    })
  }
}
