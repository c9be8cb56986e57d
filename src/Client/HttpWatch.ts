/**
 * A watch over a WebSocket. After a lost connection it waits, reconnects, and continues after the last
 * revision that it has seen. When the consumer is slow, the socket is not read, so that frames do not pile up
 * in memory.
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
import { failureOf, isCallMissing, unsupported } from "./HttpFailures.ts"

interface WatchOptions<A> {
  /** Path, with a leading slash. */
  readonly path: string
  readonly query: { readonly [name: string]: string | undefined }
  /** The call, as the start of a sentence in messages. */
  readonly what: string
  readonly from: number | undefined
  readonly onOpen: ((revision: number) => void) | undefined
  /** The error for a 404 of servers that send none of their own. */
  readonly notFound: () => IronflowError
  /** Reads the change in a frame; `undefined` for a frame without one. */
  readonly read: (frame: Frame) => { readonly revision: number; readonly change: A } | undefined
}

type Frame = { readonly [name: string]: unknown }

/** The first and the longest delay before a reconnection, in milliseconds. */
const RECONNECT = { firstMs: 250, longestMs: 30_000, factor: 2 }
/** How many frames may wait in this process before reading from the socket pauses. */
const MAX_WAITING_FRAMES = 64
/**
 * How long to wait for the start frame, in milliseconds. After that the watch counts as open, since some
 * servers send no such frame.
 */
const SILENT_MS = 1000

const watch = <A>(connection: Connection, options: WatchOptions<A>): Stream.Stream<A, IronflowError> =>
  Stream.callback<A, IronflowError>(
    (queue) => Effect.catch(follow(connection, queue, options), (error) => Queue.fail(queue, error)),
    { bufferSize: 16, strategy: "suspend" }
  )

/** Streams the changes of a watch operation. `change` converts each frame. */
export const watchOf = <A extends { readonly revision: number }, B>(
  connection: Connection,
  operation: Operation<A>,
  {
    about,
    change,
    fromRevision,
    onOpen,
    query = {},
    said,
    variables,
    what
  }: {
    /** The call as the user wrote it, with what it is about. */
    readonly what: string
    readonly about: string
    /** The path variables. Throws `ValidationError` for invalid ones. */
    readonly variables: () => { readonly [name: string]: string }
    readonly query?: { readonly [name: string]: string | undefined }
    readonly fromRevision?: number
    readonly onOpen?: (revision: number) => void
    /** Members that a frame may lack, since the call already has them. */
    readonly said: object
    readonly change: (frame: A) => B
  }
): Stream.Stream<B, IronflowError> => {
  const { answer, missing } = operation
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
          from: fromRevision,
          onOpen,
          notFound: () => new missing!(about),
          read: (frame) => {
            const found = read({ ...said, ...frame })
            return found === undefined ? undefined : { revision: found.revision, change: change(found) }
          }
        })
    )
  )
}

type Heard =
  | { readonly _tag: "Open" }
  | { readonly _tag: "Silent" }
  | { readonly _tag: "Frame"; readonly frame: Frame }
  | { readonly _tag: "Lost"; readonly error: IronflowError; readonly forGood: boolean }

const follow = <A>(
  connection: Connection,
  queue: Queue.Queue<A, IronflowError | Cause.Done>,
  options: WatchOptions<A>
): Effect.Effect<never, IronflowError> =>
  Effect.gen(function* () {
    const { WebSocket } = yield* Effect.promise(() => import("ws"))
    let after = options.from
    let opened = false
    let failures = 0

    const connected = Effect.acquireUseRelease(
      Effect.gen(function* () {
        const inbox = yield* Queue.unbounded<Heard>()
        const socket = new WebSocket(urlOf(connection, options, after), {
          headers: headersOf(connection),
          handshakeTimeout: connection.server.timeoutMs
        })
        listen(connection, options.what, options.notFound, socket, inbox)
        return { inbox, socket }
      }),
      ({ inbox, socket }) =>
        Effect.gen(function* () {
          let greeted = false
          const greet = (revision: number): void => {
            after ??= revision
            if (greeted) return
            greeted = true
            options.onOpen?.(after)
          }
          while (true) {
            const heard: Heard = yield* Queue.take(inbox)
            switch (heard._tag) {
              case "Open":
                opened = true
                failures = 0
                yield* Effect.forkChild(
                  Effect.andThen(Effect.sleep(SILENT_MS), Queue.offer(inbox, { _tag: "Silent" }))
                )
                break
              case "Silent":
                greet(after ?? 0)
                break
              case "Lost":
                return heard
              case "Frame": {
                const { frame } = heard
                const begun = readWatching(frame)
                if (begun !== undefined) greet(begun.revision)
                const read = options.read(frame)
                if (read !== undefined && (after === undefined || read.revision > after)) {
                  greet(read.revision)
                  after = read.revision
                  yield* Queue.offer(queue, read.change)
                }
              }
            }
            if (socket.isPaused && (yield* Queue.size(inbox)) === 0) socket.resume()
          }
        }),
      ({ socket }) =>
        Effect.sync(() => {
          socket.removeAllListeners()
          // an attempt that is aborted emits an error
          socket.on("error", () => undefined)
          if (socket.readyState === socket.OPEN) socket.close()
          else socket.terminate()
        })
    )

    while (true) {
      const { error, forGood } = yield* connected
      if (forGood || !opened) return yield* Effect.fail(error)
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
  after: number | undefined
): string => {
  const search = new URLSearchParams({ revision: after === undefined ? "now" : String(after) })
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
  inbox: Queue.Queue<Heard>
): void => {
  let watchdog: { readonly ms: number; timer: NodeJS.Timeout } | undefined
  const hear = (heard: Heard): void => void Queue.offerUnsafe(inbox, heard)
  const lost = (problem: string): void =>
    hear({
      _tag: "Lost",
      error: new ConnectionError(`${what}: the connection to ${server.url} ${problem}`),
      forGood: false
    })
  // a connection that is silent for long counts as dead; its timers use real time, as sockets do
  const feed = (ms: number): void => {
    clearTimeout(watchdog?.timer)
    watchdog = { ms, timer: setTimeout(() => socket.terminate(), Math.min(ms, longestTimerMs)) }
    watchdog.timer.unref()
  }
  socket.on("open", () => hear({ _tag: "Open" }))
  socket.on("ping", () => watchdog !== undefined && feed(watchdog.ms))
  socket.on("message", (data) => {
    if (watchdog !== undefined) feed(watchdog.ms)
    const frame = safeJsonParse(String(data))
    if (!isObject(frame)) return
    if (frame.type === "error") {
      const { status, ...said } = frame
      const error = readFailure(typeof status === "number" ? status : 500, JSON.stringify(said), what)
      return hear({ _tag: "Lost", error, forGood: true })
    }
    const pingMs = readWatching(frame)?.pingMs
    if (pingMs !== undefined) feed(pingMs * 3)
    hear({ _tag: "Frame", frame })
    if (Queue.sizeUnsafe(inbox) > MAX_WAITING_FRAMES) socket.pause()
  })
  socket.on("unexpected-response", (_, response) => refused(response))
  socket.on("error", (error) => lost(`failed: ${error.message || String(error)}`))
  socket.on("close", (code) => {
    clearTimeout(watchdog?.timer)
    lost(`was closed (${code})`)
  })

  const refused = (response: IncomingMessage): void => {
    let text = ""
    response.setEncoding("utf8").on("data", (part: string) => {
      if (text.length < 64 * 1024) text += part
    })
    response.on("end", () => {
      const answer = { status: response.statusCode ?? 500, text }
      const error = isCallMissing(answer)
        ? unsupported(server.url, what, "Read again from time to time instead", answer.status)
        : failureOf(answer, what, notFound)
      hear({ _tag: "Lost", error, forGood: !(error instanceof ConnectionError) })
    })
  }
}
