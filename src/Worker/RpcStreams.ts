/** Streams to an engine over effect/rpc on a WebSocket: see `Protocol/WorkerRpc.ts`. */
import type { IncomingMessage } from "node:http"
import { WebSocket } from "ws"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcClientError from "effect/rpc/RpcClientError"
import type { FromServerEncoded } from "effect/rpc/RpcMessage"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import type * as Scope from "effect/Scope"
import { environmentHeader } from "../Client/HttpOptions.ts"
import { serverFailureOf } from "../Client/HttpFailures.ts"
import { ConnectionError, type IronflowError, isIronflowError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { readFailure } from "../Protocol/Http/Failures.ts"
import { JsonFragment } from "../Protocol/JsonFragment.ts"
import { damagedError, isSealed as hasSeal, requireSeal, readSealed } from "../Protocol/Seal.ts"
import type { CallFailure } from "../Protocol/TurnStream.ts"
import { workerRpc } from "../Protocol/Workers.ts"
import { encodeFromClient, RPC_TRANSPORT, workerRpcs } from "../Protocol/WorkerRpc.ts"
import { show } from "../Show.ts"
import { readRegistrationAnswer } from "./PollingRegistration.ts"
import type { ServerLink } from "./ServerLink.ts"
import type { OpenStream, Streams } from "./StreamSession.ts"
import { sessionOverError } from "./TurnSession.ts"

/**
 * Maximum number of pushes that wait to be read. Few are enough, since the engine sends the next push when the last one
 * was taken.
 */
const PUSH_BUFFER = 16

export const rpcStreams: Streams = {
  name: RPC_TRANSPORT,
  open: (link, registration, { onLost, onPush }) =>
    Effect.gen(function* () {
      const { options, registration: worker } = link
      const { url } = options.server
      const socket = yield* connect(link)
      const run = Effect.runForkWith(yield* Effect.context<never>())
      const lost = Deferred.makeUnsafe<never, ConnectionError>()
      // when an engine seals its messages, it does so from the first one on
      let isSealed = false

      const protocol = yield* RpcClient.Protocol.make((write, clientIds) => {
        // called for a frame that effect/rpc cannot read: ends the stream, and everything that waits for an answer
        // fails
        const giveUp = Effect.sync(() => socket.terminate())
        const passToClient = (message: FromServerEncoded): void => {
          for (const clientId of clientIds) {
            run(
              Effect.catchCause(
                Effect.suspend(() => write(clientId, message)),
                () => giveUp
              )
            )
          }
        }
        socket.on("message", (data: Buffer) => {
          const message = readFrame(data.toString(), isSealed)
          if (!isObject(message) || typeof message._tag !== "string") return socket.terminate()
          isSealed = hasSeal(message)
          // an engine of this package sends the messages of effect/rpc, so an object with a tag is such a message
          passToClient(message as unknown as FromServerEncoded)
        })
        socket.on("close", (code) => {
          const reason = new ConnectionError(
            `The stream to the Ironflow server at ${url} was closed (${code})`
          )
          Deferred.doneUnsafe(lost, Exit.fail(reason))
          passToClient({ _tag: "ClientProtocolError", error: socketError(reason) })
        })
        return Effect.succeed({
          send: (_clientId, message) =>
            Effect.suspend(() => {
              if (socket.readyState !== WebSocket.OPEN) {
                return Effect.fail(socketError(new ConnectionError(`The stream to ${url} is closed`)))
              }
              socket.send(encodeFromClient(message))
              return Effect.void
            }),
          supportsAck: true,
          supportsTransferables: false,
          codecFor: RpcSerialization.json.codecFor
        })
      })
      const client = yield* Effect.provideService(
        RpcClient.make(workerRpcs, { disableTracing: true }),
        RpcClient.Protocol,
        protocol
      )

      const errorOf =
        (what: string) =>
        (error: unknown): IronflowError =>
          error instanceof RpcClientError.RpcClientError
            ? sessionOverError(`${what} was not answered: the stream to ${url} is lost`, error)
            : readCallFailure(error, what)
      const registrationError = errorOf(`The registration of worker ${worker.workerId}`)
      const pushes = yield* client.work(new JsonFragment(registration), {
        asQueue: true,
        streamBufferSize: PUSH_BUFFER
      })
      const [first] = yield* Effect.catchCause(Queue.takeBetween(pushes, 1, 1), (cause) =>
        Effect.fail(registrationError(Cause.squash(cause)))
      )
      const pump = Effect.forever(
        Effect.map(Queue.takeAll(pushes), (taken) => {
          for (const push of taken) onPush(push)
        }),
        { disableYield: true }
      )
      // the stream ends when its call ends, or with its socket
      const ended = Effect.catchCause(Effect.raceFirst(pump, Deferred.await(lost)), (cause) =>
        Effect.sync(() => {
          if (Cause.hasInterruptsOnly(cause)) return
          const error = Cause.squash(cause)
          onLost(
            error instanceof ConnectionError
              ? error
              : new ConnectionError(`The Ironflow server at ${url} ended the stream`, { cause: error })
          )
        })
      )
      yield* Effect.forkScoped(ended)

      const stream: OpenStream = {
        call: (call, body) => {
          const what = `A call of worker ${worker.workerId}`
          return Effect.mapError(client[call](new JsonFragment(body)), errorOf(what))
        }
      }
      const registered = isObject(first) ? first.registered : undefined
      if (readRegistrationAnswer(registered)?.capabilities.seals === true && !isSealed)
        return yield* damagedError()
      return { stream, registered }
    })
}

/** The value of a frame; `undefined` when the frame is invalid or was damaged in transit. */
const readFrame = (text: string, seals: boolean): unknown => {
  try {
    return requireSeal(
      readSealed(text, (text) => safeJsonParse(text)),
      seals
    )
  } catch (error) {
    if (isIronflowError(error)) return undefined
    throw error
  }
}

const socketError = (reason: ConnectionError): RpcClientError.RpcClientError =>
  new RpcClientError.RpcClientError({
    reason: new RpcClientError.RpcClientDefect({ message: reason.message, cause: reason })
  })

/**
 * Opens a WebSocket for the lifetime of the scope. When the server refuses the WebSocket, fails with the error in the
 * server's answer.
 */
const connect = ({ options }: ServerLink): Effect.Effect<WebSocket, IronflowError, Scope.Scope> => {
  const { apiKey, timeoutMs, url } = options.server
  const open = Effect.callback<WebSocket, IronflowError>((resume) => {
    const socket = new WebSocket(url.replace(/^http/, "ws") + workerRpc.path, {
      headers: {
        ...environmentHeader(options.server),
        ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` })
      },
      handshakeTimeout: timeoutMs,
      perMessageDeflate: false,
      // no limit: what the engine sends is limited by the engine
      maxPayload: 0
    })
    const what = "The WebSocket of the worker"
    socket.on("error", (error) =>
      resume(Effect.fail(new ConnectionError(`${what} to ${url} failed: ${error.message}`, { cause: error })))
    )
    socket.on("unexpected-response", (_request, response: IncomingMessage) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("close", () => {
        const answer = { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }
        resume(Effect.fail(serverFailureOf(answer, what)))
        socket.terminate()
      })
    })
    socket.on("open", () => resume(Effect.succeed(socket)))
    return Effect.sync(() => socket.terminate())
  })
  return Effect.acquireRelease(open, (socket) => Effect.sync(() => hangUp(socket)), { interruptible: true })
}

/** Closes the socket. Waits only a short time for the engine to close it too, since the engine may be gone. */
const hangUp = (socket: WebSocket): void => {
  socket.close()
  const timer = setTimeout(() => socket.terminate(), HANG_UP_MS)
  timer.unref()
  socket.once("close", () => clearTimeout(timer))
}

const HANG_UP_MS = 1000

const readCallFailure = (failure: unknown, what: string): IronflowError => {
  if (!isObject(failure) || typeof failure.status !== "number") {
    return new ConnectionError(`${what} failed: ${show(failure)}`, { cause: failure })
  }
  // an engine sends failures in this shape
  const { body, status } = failure as unknown as CallFailure
  return readFailure(status, JSON.stringify(body), what)
}
