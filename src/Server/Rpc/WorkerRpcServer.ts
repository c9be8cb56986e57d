/**
 * Streams of workers over effect/rpc. Each worker has one WebSocket. On it, one `work` call lasts as long as the
 * session, and the worker's other calls run beside that call.
 */
import type { WebSocket } from "ws"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import type { FromClientEncoded } from "effect/rpc/RpcMessage"
import type * as Scope from "effect/Scope"
import { type IronflowError, isIronflowError, LimitExceededError, ValidationError } from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonLimits.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/CallAddress.ts"
import { defectResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { JsonFragment } from "../../Protocol/JsonFragment.ts"
import { isSealed, readSealed } from "../../Protocol/Seal.ts"
import type { CallFailure, StreamCall } from "../../Protocol/TurnStream.ts"
import { sockets } from "../../Protocol/Workers.ts"
import { encodeFromServer, RPC_TRANSPORT, workerRpcs } from "../../Protocol/WorkerRpc.ts"
import { show } from "../../Show.ts"
import { TurnStream } from "../Workers/TurnStream.ts"
import { type RemoteWorkers, unknownWorker } from "../../Engine/Workers/RemoteWorkers.ts"
import type { Flow } from "../Ws/SocketFlow.ts"
import {
  closeFor,
  type OnFrame,
  POLICY_VIOLATION,
  type SocketCall,
  type SocketRoute
} from "../Ws/Upgrades.ts"

/** Maximum number of calls of one worker that wait for their answers. A worker of this package has a handful of them. */
const MAX_CALLS = 1024

/**
 * Maximum number of bytes that a worker may leave unread, not counting the last push. With more unread bytes the socket
 * is closed, since the worker does not read.
 */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024

/** The connection of a worker. */
interface Connection {
  readonly socket: WebSocket
  readonly flow: Flow
  readonly stream: TurnStream
  readonly pushes: Queue.Queue<JsonFragment, Cause.Done>
  /** How many calls of the worker are not answered yet. */
  calls: number
  /** Whether the last message of the worker had a seal. If so, messages to the worker have a seal too. */
  isSealed: boolean
}

/**
 * Serves the rpcs for the lifetime of the scope. The returned route takes the WebSockets. `maxFrameBytes`
 * limits the size of a call.
 */
export const make = (
  workers: RemoteWorkers,
  maxFrameBytes: number
): Effect.Effect<SocketRoute, never, Scope.Scope> =>
  Effect.gen(function* () {
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const connections = new Map<number, Connection>()
    const disconnects = yield* Queue.unbounded<number>()
    let lastId = 0
    let receive: (clientId: number, message: FromClientEncoded) => Effect.Effect<void> = () => Effect.void

    const protocol = yield* RpcServer.Protocol.make((write) => {
      receive = write
      return Effect.succeed({
        disconnects,
        send: (clientId, message) =>
          Effect.sync(() => {
            const connection = connections.get(clientId)
            if (connection === undefined) return
            if (message._tag === "Exit") connection.calls--
            send(connection.socket, encodeFromServer(message, connection.isSealed))
            connection.flow.onSent()
          }),
        end: (clientId) => Effect.sync(() => connections.get(clientId)?.socket.close()),
        clientIds: Effect.sync(() => new Set(connections.keys())),
        initialMessage: Effect.succeed(Option.none()),
        supportsAck: true,
        supportsTransferables: false,
        supportsSpanPropagation: false,
        supportsNotifications: false,
        codecFor: RpcSerialization.json.codecFor
      })
    })

    const connectionOf = (clientId: number): Effect.Effect<Connection, IronflowError> =>
      Effect.suspend(() => {
        const connection = connections.get(clientId)
        return connection === undefined ? Effect.fail(unknownWorker("")) : Effect.succeed(connection)
      })

    const answer =
      (call: StreamCall) =>
      (payload: unknown, { client }: { readonly client: { readonly id: number } }) =>
        connectionOf(client.id).pipe(
          Effect.flatMap(({ stream }) => stream.call(call, payload)),
          Effect.map((text) => new JsonFragment(text)),
          encodeFailures
        )

    const handlers = workerRpcs.toLayer({
      work: (payload, { client }) =>
        connectionOf(client.id).pipe(
          Effect.flatMap(({ isSealed, pushes, socket, stream }) =>
            Effect.map(stream.register(payload, isSealed), (response) => {
              // the permissions of the key may have changed since the request
              closeIfForbidden(socket, stream)
              Queue.offerUnsafe(pushes, new JsonFragment(`{"registered":${response}}`))
              if (stream.hasMore) Queue.offerUnsafe(pushes, new JsonFragment(stream.take()))
              return pushes
            })
          ),
          encodeFailures
        ),
      report: answer("report"),
      room: answer("room"),
      late: answer("late"),
      leave: answer("leave")
    })

    yield* RpcServer.make(workerRpcs, { disableTracing: true, disableFatalDefects: true }).pipe(
      Effect.provideService(RpcServer.Protocol, protocol),
      Effect.provide(handlers),
      Effect.forkScoped
    )

    const open = (socket: WebSocket, call: SocketCall): OnFrame => {
      const id = ++lastId
      const pushes = Effect.runSync(Queue.unbounded<JsonFragment, Cause.Done>())
      const { environment, visitor } = call
      const stream = new TurnStream(workers, {
        transport: RPC_TRANSPORT,
        connection: call.request.socket,
        environment:
          call.request.headers[ENVIRONMENT_HEADER] === undefined &&
          visitor.caller.key?.environment === undefined
            ? undefined
            : environment,
        caller: visitor.caller,
        maxBodyBytes: maxFrameBytes,
        wake: () => {
          if (stream.hasMore) Queue.offerUnsafe(pushes, new JsonFragment(stream.take()))
        },
        // closes a moment later, so that answers are sent first
        end: () => void setImmediate(() => socket.close())
      })
      const connection: Connection = { socket, flow: call.flow, stream, pushes, calls: 0, isSealed: false }
      connections.set(id, connection)
      const stopWatching = visitor.caller.watch((ended) => {
        if (!ended) closeIfForbidden(socket, stream)
      })
      socket.on("close", () => {
        stopWatching()
        connections.delete(id)
        Queue.offerUnsafe(disconnects, id)
      })
      return (frame, isBinary) => {
        if (isBinary) throw new ValidationError("A message of a worker is JSON text, and this one is binary")
        const message = readMessage(frame.toString())
        connection.isSealed = isSealed(message)
        stream.checkSeal(connection.isSealed)
        if (message._tag === "Request" && ++connection.calls > MAX_CALLS) {
          throw new LimitExceededError(
            "The number of unanswered calls on a connection",
            connection.calls,
            MAX_CALLS,
            "calls"
          )
        }
        run(receive(id, message))
      }
    }
    return {
      spec: sockets.workers,
      maxFrameBytes,
      // this large, since the worker must be able to renew its leases while it receives a long history
      maxUnreadBytes: MAX_UNREAD_BYTES,
      open
    }
  })

/** Closes the socket if its worker may no longer use the stream. */
const closeIfForbidden = (socket: WebSocket, stream: TurnStream): void => {
  try {
    stream.check()
  } catch (error) {
    if (!isIronflowError(error)) throw error
    // the worker learns the reason when it reconnects
    closeFor(socket, POLICY_VIOLATION, "the API key may not do this any more")
  }
}

const send = (socket: WebSocket, text: string): void => {
  if (socket.bufferedAmount > MAX_UNREAD_BYTES) return socket.terminate()
  socket.send(text)
}

/** The longest id of a call, in characters. */
const ID_LENGTH = 64

/**
 * Reads a message of a worker. The payload of the message is checked where it is used. Throws `ValidationError` for an
 * invalid message, and another `IronflowError` for a message that was damaged in transit.
 */
const readMessage = (text: string): FromClientEncoded => {
  const message = readSealed(text, (text) => safeJsonParse(checkShape("the message of the worker", text)))
  const invalid = (problem: string): ValidationError =>
    new ValidationError(`A message of a worker ${problem}`)
  if (!isObject(message)) throw invalid("must be a JSON object")
  const { _tag, headers, id, requestId, tag } = message
  switch (_tag) {
    case "Request":
      if (!isId(id)) throw invalid(`must have a number or a short text as \`id\`, got ${show(id)}`)
      if (typeof tag !== "string" || !workerRpcs.requests.has(tag))
        throw invalid(`must name a call, got ${show(tag)}`)
      if (!Array.isArray(headers) || !headers.every(isPair)) {
        throw invalid(`must have \`headers\` in pairs of texts, got ${show(headers)}`)
      }
      break
    case "Ack":
    case "Interrupt":
      if (!isId(requestId)) {
        throw invalid(`must have a number or a short text as \`requestId\`, got ${show(requestId)}`)
      }
      break
    case "Ping":
    case "Eof":
      break
    default:
      throw invalid(`must have a \`_tag\` that effect/rpc knows, got ${show(_tag)}`)
  }
  // the fields that effect/rpc reads were checked above
  return message as unknown as FromClientEncoded
}

const isId = (value: unknown): boolean =>
  typeof value === "string" ? value.length <= ID_LENGTH : Number.isSafeInteger(value)

const isPair = (value: unknown): boolean =>
  Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === "string")

/** Encodes the failure of the effect as it is encoded over HTTP. A defect becomes an internal error. */
const encodeFailures = <A, R>(effect: Effect.Effect<A, IronflowError, R>): Effect.Effect<A, CallFailure, R> =>
  Effect.catchCause(effect, (cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
    const error = Cause.squash(cause)
    if (isIronflowError(error)) return Effect.fail(failureResponse(error, "rest"))
    return Effect.andThen(
      Effect.logError("A call of a worker failed because of a bug: please report this", cause),
      Effect.fail(defectResponse("rest"))
    )
  })
