/**
 * Watching keys and configurations over WebSockets: a frame for each change.
 *
 * A watch with a `revision` to start after (`now` for the end) gets a first frame that says where it starts.
 * One frame is sent at a time. When a client does not take a frame within 30 seconds, its socket is closed with the
 * code 4008; the client can reconnect with its last revision.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { WebSocket } from "ws"
import { type IronflowError, isIronflowError, ValidationError } from "../../Errors.ts"
import { checkBucketName, checkRevision, compileFilter } from "../../KvKeys.ts"
import { contentTypes } from "../../KvValue.ts"
import { watches as config } from "../../Protocol/Config.ts"
import { watches as kv } from "../../Protocol/Kv.ts"
import { encoder } from "../../Protocol/ServerCodec.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { WATCH_FAILED, WATCHER_TOO_SLOW, Watching } from "../../Protocol/Watch.ts"
import { failureResponse } from "../../Protocol/Http/Failures.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { yieldIfMany } from "../../Engine/Yielding.ts"
import type { Flow } from "./SocketFlow.ts"
import type { SocketCall, SocketRoute } from "./Upgrades.ts"

/** The timeout for sending one frame, in milliseconds. */
const SEND_MS = 30_000
/** The interval of pings, in milliseconds. */
const PING_MS = 25_000

export const watchRoutes = (
  engine: EngineService,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
): ReadonlyArray<SocketRoute> => {
  /** The route of a watch. Its spec says who may watch, and what a frame holds. */
  const watchRoute = <A, Frame>(
    spec: CallSpec<Frame>,
    changes: (
      call: SocketCall,
      start: { readonly startRevision: number | undefined; readonly onOpen: (revision: number) => void }
    ) => Stream.Stream<A, IronflowError>,
    frameOf: (change: A, call: SocketCall) => Frame,
    check?: SocketRoute["check"]
  ): SocketRoute => {
    const encode = encoder(spec.answer!)
    return {
      spec,
      check: (call) => {
        check?.(call)
        readStartRevision(call)
      },
      open: (socket, call) =>
        serve(
          fork,
          socket,
          call.flow,
          changes(call, { startRevision: readStartRevision(call), onOpen: sendFirstFrame(socket, call) }),
          (change) => encode(frameOf(change, call))
        )
    }
  }

  return [
    watchRoute(
      kv.watchKeys,
      ({ environment, query, variables }, { startRevision, onOpen }) =>
        engine.kv
          .storedKeys(environment, variables["bucket"] ?? "")
          .watch({ filter: query.get("key") ?? undefined, from: startRevision, onOpen }),
      ({ key, value, revision, operation, createdAt }, { variables }) => ({
        type: "kv_update" as const,
        key,
        value: Buffer.from(value.bytes).toString("base64"),
        revision,
        operation,
        bucket: variables["bucket"] ?? "",
        ...(operation === "put" ? { contentType: contentTypes[value.type] } : {}),
        created_at: new Date(createdAt).toISOString()
      }),
      ({ query, variables }) => {
        checkBucketName(variables["bucket"])
        compileFilter(query.get("key") ?? undefined)
      }
    ),
    watchRoute(
      config.watchConfig,
      ({ environment, variables }, { startRevision, onOpen }) =>
        engine.config.in(environment).watch(variables["name"] ?? "", {
          onOpen,
          ...(startRevision === undefined ? {} : { fromRevision: startRevision })
        }),
      ({ data = null, ...change }) => ({
        type: "config_update" as const,
        ...change,
        data,
        ...(data === null ? { deleted: true } : {})
      })
    )
  ]
}

const readStartRevision = ({ query }: Pick<SocketCall, "query">): number | undefined => {
  const text = query.get("revision")
  if (text === null || text === "" || text === "now") return undefined
  if (!/^\d{1,16}$/.test(text)) {
    throw new ValidationError(
      `\`revision\` must be an integer, at least 0, or "now", got ${JSON.stringify(text.slice(0, 64))}`
    )
  }
  return checkRevision(Number(text), 0)
}

const encodeWatching = encoder(Watching)

/** Sends the first frame, if the client has asked for it. Other clients do not know that frame. */
const sendFirstFrame =
  (socket: WebSocket, { query }: SocketCall) =>
  (revision: number): void => {
    if (query.has("revision")) {
      socket.send(JSON.stringify(encodeWatching({ type: "watching", revision, pingMs: PING_MS })))
    }
  }

const serve = <A>(
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  socket: WebSocket,
  flow: Flow,
  changes: Stream.Stream<A, IronflowError>,
  encode: (change: A) => unknown
): void => {
  let isAlive = true
  socket.on("pong", () => (isAlive = true))
  // sending a frame that the connection takes at once does not yield to the event loop: many such frames in a row
  // would block all other clients
  const sendChanges = Stream.runForEach(changes, (change) =>
    yieldIfMany(Effect.suspend(() => send(socket, flow, encode(change))))
  ).pipe(Effect.catch((error) => (error === tooSlowError ? Effect.void : closeWithError(socket, error))))
  const sendPings = Effect.forever(
    Effect.andThen(
      Effect.sleep(PING_MS),
      Effect.sync(() => {
        if (!isAlive) return socket.terminate()
        isAlive = false
        socket.ping()
      })
    )
  )
  const fiber = fork(Effect.raceFirst(sendChanges, sendPings))
  socket.on("close", () => fiber.interruptUnsafe())
}

const tooSlowError = new ValidationError("The watcher does not read")

const send = (socket: WebSocket, flow: Flow, frame: unknown): Effect.Effect<void, IronflowError> =>
  Effect.callback<void>((resume) => {
    // after an error the socket closes, which ends the watch
    socket.send(JSON.stringify(frame), () => resume(Effect.void))
    flow.onSent()
  }).pipe(
    Effect.timeoutOrElse({
      duration: SEND_MS,
      orElse: () => {
        socket.close(WATCHER_TOO_SLOW, `no frame was read for ${SEND_MS / 1000} s`)
        return Effect.fail(tooSlowError)
      }
    })
  )

const closeWithError = (socket: WebSocket, error: IronflowError): Effect.Effect<void> =>
  Effect.sync(() => {
    const { status, body } = failureResponse(error, "rest")
    socket.send(JSON.stringify({ type: "error", status, ...body }))
    socket.close(WATCH_FAILED, isIronflowError(error) ? error.code : "")
  })
