/**
 * Watching keys and configurations over WebSockets: a frame for each change.
 *
 * Who names a `revision` to begin after (`now` for the end) gets a first frame that says where the watch begins. One frame
 * is on its way at a time; a watcher that does not take it within 30 seconds is closed with 4008, and can come back with
 * the last revision that it has seen.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { WebSocket } from "ws"
import { type IronflowError, isIronflowError, ValidationError } from "../../Errors.ts"
import { checkBucketName, checkRevision, compileFilter } from "../../KvKeys.ts"
import { contentTypes } from "../../KvValue.ts"
import { sockets } from "../../Protocol/Http/Endpoints.ts"
import { failureResponse } from "../../Protocol/Http/Failures.ts"
import type { EngineService } from "../Engine.ts"
import type { KvChange } from "../Store/Store.ts"
import type { Flow } from "./Flow.ts"
import type { SocketCall, SocketRoute } from "./Upgrades.ts"

/** The watch ended with an error, which the frame before said. */
const FAILED = 4000
/** The watcher does not read. */
const TOO_SLOW = 4008

/** How long one frame may be on its way, milliseconds. */
const SEND_MS = 30_000
/** How often a watcher is asked whether it is still there, milliseconds. */
const PING_MS = 25_000

export const watchRoutes = (
  engine: EngineService,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
): ReadonlyArray<SocketRoute> => [
  {
    path: sockets.watchKeys,
    check: (call) => {
      call.visitor.caller.check("kv:read", `bucket:${call.variables.bucket}`, call.environment)
      checkBucketName(call.variables.bucket)
      compileFilter(call.query.get("key") ?? undefined)
      readFrom(call)
    },
    open: (socket, call) => {
      const bucket = call.variables.bucket ?? ""
      serve(
        fork,
        socket,
        call.flow,
        engine.storedKeys(call.environment, bucket).watch({
          filter: call.query.get("key") ?? undefined,
          from: readFrom(call),
          onOpen: hello(socket, call)
        }),
        (change) => keyFrame(bucket, change)
      )
    }
  },
  {
    path: sockets.watchConfig,
    check: (call) => {
      call.visitor.caller.check("config:read", `config:${call.variables.name}`, call.environment)
      readFrom(call)
    },
    open: (socket, call) => {
      const from = readFrom(call)
      serve(
        fork,
        socket,
        call.flow,
        engine.config(call.environment).watch(call.variables.name ?? "", {
          onOpen: hello(socket, call),
          ...(from === undefined ? {} : { fromRevision: from })
        }),
        ({ name, data, revision, updatedAt }) => ({
          type: "config_update",
          name,
          data: data ?? null,
          revision,
          updatedAt,
          ...(data === undefined ? { deleted: true } : {})
        })
      )
    }
  }
]

const readFrom = ({ query }: Pick<SocketCall, "query">): number | undefined => {
  const text = query.get("revision")
  if (text === null || text === "" || text === "now") return undefined
  if (!/^\d{1,16}$/.test(text)) {
    throw new ValidationError(
      `\`revision\` must be a revision or "now", got ${JSON.stringify(text.slice(0, 64))}`
    )
  }
  return checkRevision(Number(text), 0)
}

/** Only to who has asked: others know no such frame. */
const hello =
  (socket: WebSocket, { query }: SocketCall) =>
  (revision: number): void => {
    if (query.has("revision")) socket.send(JSON.stringify({ type: "watching", revision, ping_ms: PING_MS }))
  }

const keyFrame = (bucket: string, { key, value, revision, operation, createdAt }: KvChange) => ({
  type: "kv_update",
  key,
  value: Buffer.from(value.bytes).toString("base64"),
  revision,
  operation,
  bucket,
  ...(operation === "put" ? { content_type: contentTypes[value.type] } : {}),
  created_at: new Date(createdAt).toISOString()
})

const serve = <A>(
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  socket: WebSocket,
  flow: Flow,
  changes: Stream.Stream<A, IronflowError>,
  encode: (change: A) => object
): void => {
  let alive = true
  socket.on("pong", () => (alive = true))
  const watching = Stream.runForEach(changes, (change) => send(socket, flow, encode(change))).pipe(
    Effect.catch((error) => (error === slow ? Effect.void : refuse(socket, error)))
  )
  const pinging = Effect.forever(
    Effect.andThen(
      Effect.sleep(PING_MS),
      Effect.sync(() => {
        if (!alive) return socket.terminate()
        alive = false
        socket.ping()
      })
    )
  )
  const fiber = fork(Effect.raceFirst(watching, pinging))
  socket.on("close", () => fiber.interruptUnsafe())
}

const slow = new ValidationError("The watcher does not read")

const send = (socket: WebSocket, flow: Flow, frame: object): Effect.Effect<void, IronflowError> =>
  Effect.callback<void>((resume) => {
    // an error closes the socket, and that ends the watch
    socket.send(JSON.stringify(frame), () => resume(Effect.void))
    flow.sent()
  }).pipe(
    Effect.timeoutOrElse({
      duration: SEND_MS,
      orElse: () => {
        socket.close(TOO_SLOW, `no frame was read for ${SEND_MS / 1000} s`)
        return Effect.fail(slow)
      }
    })
  )

const refuse = (socket: WebSocket, error: IronflowError): Effect.Effect<void> =>
  Effect.sync(() => {
    const { status, body } = failureResponse(error, "rest")
    socket.send(JSON.stringify({ type: "error", status, ...body }))
    socket.close(FAILED, isIronflowError(error) ? error.code : "")
  })
