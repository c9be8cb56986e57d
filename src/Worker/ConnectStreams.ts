/**
 * Streams to an engine over ConnectRPC: one call of `WorkerService/Connect` on HTTP/2, in both directions at once.
 *
 * Importing this module loads `@bufbuild/protobuf`, `@connectrpc/connect` and `@connectrpc/connect-node`.
 * These are optional peers of this package, and must be installed.
 */
import { create } from "@bufbuild/protobuf"
import { Code, ConnectError, createClient } from "@connectrpc/connect"
import { createConnectTransport } from "@connectrpc/connect-node"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { environmentHeader } from "../Client/HttpOptions.ts"
import {
  ConnectionError,
  type IronflowError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError
} from "../Errors.ts"
import { type JsonText, isObject, safeJsonParse } from "../Json.ts"
import { answerSealedWith, callSealedWith } from "../Protocol/Connect/Messages.ts"
import {
  type EngineMessage,
  type WorkerMessage,
  WorkerMessageSchema,
  WorkerService
} from "../Protocol/Connect/worker_pb.ts"
import { readFailure } from "../Protocol/Http/Failures.ts"
import { damagedError, requireSeal, readSealed, seal } from "../Protocol/Seal.ts"
import type { CallFailure, StreamCall } from "../Protocol/TurnStream.ts"
import { Http2Session } from "./Http2Session.ts"
import { readRegistrationAnswer } from "./PollingRegistration.ts"
import type { ServerLink } from "./ServerLink.ts"
import type { StreamEvents, Streams } from "./StreamSession.ts"
import { sessionOverError } from "./TurnSession.ts"

export const connectStreams: Streams = {
  name: "connect",
  open: (link, registration, events) =>
    Effect.gen(function* () {
      const stream = yield* Effect.acquireRelease(
        Effect.sync(() => new ConnectStream(link, events)),
        (stream) => Effect.sync(() => stream.close())
      )
      const registered = yield* stream.register(registration)
      return { stream, registered }
    }) satisfies Effect.Effect<unknown, IronflowError, Scope.Scope>
}

class ConnectStream {
  readonly #link: ServerLink
  readonly #events: StreamEvents
  readonly #outgoing = new OutgoingMessages()
  readonly #abortController = new AbortController()
  readonly #session: Http2Session
  readonly #registered = Deferred.makeUnsafe<unknown, IronflowError>()
  readonly #calls = new Map<number, Deferred.Deferred<unknown, IronflowError>>()
  #lastCall = 0
  /** Whether the engine seals its messages, so that the worker notices when one was damaged in transit. */
  #seals = false
  /** Why the stream has ended; `undefined` while it is open. */
  #endReason: ConnectionError | undefined

  constructor(link: ServerLink, events: StreamEvents) {
    this.#link = link
    this.#events = events
    // each stream has a new connection: nothing of a lost connection is used again
    this.#session = new Http2Session(link.options.server.url)
  }

  register(registration: JsonText): Effect.Effect<unknown, IronflowError> {
    const { hostname, functions, labels, maxConcurrentJobs, version, workerId } = this.#link.registration
    return Effect.suspend(() => {
      this.#outgoing.push(
        create(WorkerMessageSchema, {
          payload: {
            case: "register",
            value: {
              workerId,
              hostname,
              functionIds: functions.map(({ id }) => id),
              maxConcurrentJobs,
              labels,
              version,
              turns: seal(registration)
            }
          }
        })
      )
      void this.#read()
      return Deferred.await(this.#registered)
    })
  }

  call(call: StreamCall, body: JsonText): Effect.Effect<unknown, IronflowError> {
    return Effect.suspend(() => {
      if (this.#endReason !== undefined) return Effect.fail(this.#unansweredError(this.#endReason))
      const id = ++this.#lastCall
      const answer = Deferred.makeUnsafe<unknown, IronflowError>()
      this.#calls.set(id, answer)
      this.#outgoing.push(
        create(WorkerMessageSchema, {
          payload: { case: "turnCall", value: { id, call, body: seal(body, callSealedWith(id, call)) } }
        })
      )
      return Effect.ensuring(
        Deferred.await(answer),
        Effect.sync(() => this.#calls.delete(id))
      )
    })
  }

  close(): void {
    this.#end(new ConnectionError("The stream was closed"))
    // aborts a moment later, so that messages in transit are sent first
    setImmediate(() => {
      this.#abortController.abort()
      this.#session.close()
    })
  }

  async #read(): Promise<void> {
    const { server } = this.#link.options
    const { apiKey, url } = server
    try {
      const client = createClient(
        WorkerService,
        createConnectTransport({ baseUrl: url, httpVersion: "2", sessionManager: this.#session })
      )
      const messages = client.connect(this.#outgoing, {
        signal: this.#abortController.signal,
        headers: {
          ...environmentHeader(server),
          ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` })
        }
      })
      for await (const message of messages) this.#onMessage(message)
      this.#lose(new ConnectionError(`The Ironflow server at ${url} ended the stream`))
    } catch (error) {
      this.#onFailure(error)
    }
  }

  /**
   * Handles a message of the engine. Throws an `IronflowError` for a damaged message; the stream is then
   * lost.
   */
  #onMessage({ payload }: EngineMessage): void {
    switch (payload.case) {
      case "registered": {
        const registered = readSealed(payload.value.turns, (text) => safeJsonParse<unknown>(text))
        this.#seals = readRegistrationAnswer(registered)?.capabilities.seals === true
        requireSeal(registered, this.#seals)
        return void Deferred.doneUnsafe(this.#registered, Exit.succeed(registered))
      }
      case "turnPush":
        return this.#events.onPush(this.#readText(payload.value.body))
      case "turnAnswer": {
        const { body, failure, id } = payload.value
        const value =
          failure === ""
            ? Exit.succeed(this.#readText(body, answerSealedWith(id, "body")))
            : Exit.fail(readCallFailure(this.#readText(failure, answerSealedWith(id, "failure"))))
        const answer = this.#calls.get(id)
        if (answer !== undefined) Deferred.doneUnsafe(answer, value)
        return
      }
      default:
        // an engine sends only the messages above: if it seals them, the payload of this one was damaged
        if (this.#seals) throw damagedError()
    }
  }

  #readText(text: JsonText, sealedWith?: string): unknown {
    return requireSeal(
      readSealed(text, (text) => safeJsonParse(text), sealedWith),
      this.#seals
    )
  }

  #onFailure(error: unknown): void {
    const { url } = this.#link.options.server
    const { code, metadata, rawMessage } = ConnectError.from(error)
    // For a response that is no stream, ConnectRPC only gives the status and headers. If the response is not JSON,
    // it is the page of a gateway, and no refusal of the server.
    const isPage = /^HTTP \d+$/.test(rawMessage) && !/\bjson\b/.test(metadata.get("content-type") ?? "")
    const refusal = isPage ? undefined : refusalOf(code, rawMessage)
    if (refusal !== undefined) Deferred.doneUnsafe(this.#registered, Exit.fail(refusal))
    this.#lose(
      new ConnectionError(`The stream to the Ironflow server at ${url} is lost: ${rawMessage}`, {
        cause: error
      })
    )
  }

  #lose(reason: ConnectionError): void {
    if (this.#end(reason)) this.#events.onLost(reason)
  }

  /**
   * Ends the stream: everything that waits for the engine fails with `reason`. Returns whether this was the
   * first call.
   */
  #end(reason: ConnectionError): boolean {
    if (this.#endReason !== undefined) return false
    this.#endReason = reason
    this.#outgoing.end()
    Deferred.doneUnsafe(this.#registered, Exit.fail(reason))
    for (const answer of this.#calls.values()) {
      Deferred.doneUnsafe(answer, Exit.fail(this.#unansweredError(reason)))
    }
    return true
  }

  #unansweredError(cause: ConnectionError): IronflowError {
    return sessionOverError(`A call of worker ${this.#link.registration.workerId} was not answered`, cause)
  }
}

/** The error to fail with; `undefined` when the server may accept a repetition. */
const refusalOf = (code: Code, message: string): IronflowError | undefined => {
  switch (code) {
    case Code.Unauthenticated:
      return new UnauthenticatedError(message)
    case Code.PermissionDenied:
      return new UnauthorizedError(message)
    case Code.InvalidArgument:
      return new ValidationError(message)
    default:
      return undefined
  }
}

const readCallFailure = (failure: unknown): IronflowError => {
  if (!isObject(failure)) return new ConnectionError("The Ironflow server failed, and does not say why")
  // an engine sends failures in this shape
  const { body, status } = failure as unknown as CallFailure
  return readFailure(status, JSON.stringify(body), "A call of the worker")
}

/** The messages that the worker sends, in order. ConnectRPC reads them. */
class OutgoingMessages implements AsyncIterable<WorkerMessage> {
  #queue: Array<WorkerMessage> = []
  #hasEnded = false
  #wake: (() => void) | undefined

  push(message: WorkerMessage): void {
    if (this.#hasEnded) return
    this.#queue.push(message)
    this.#wake?.()
  }

  end(): void {
    this.#hasEnded = true
    this.#wake?.()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WorkerMessage> {
    for (;;) {
      const messages = this.#queue
      this.#queue = []
      yield* messages
      if (this.#queue.length > 0) continue
      if (this.#hasEnded) return
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}
