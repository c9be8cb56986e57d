/**
 * Streams of workers over ConnectRPC: envelopes on an HTTP/2 stream, in both directions at once. Workers of this
 * package exchange turns; legacy workers get jobs.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Cause from "effect/Cause"
import { DEFAULT_ENVIRONMENT } from "../../Constants.ts"
import {
  type IronflowError,
  isIronflowError,
  ServerError,
  UnauthenticatedError,
  ValidationError
} from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonLimits.ts"
import {
  answerSealedWith,
  callSealedWith,
  CONNECT_TRANSPORT,
  engineMessage,
  workerMessage
} from "../../Protocol/Connect/Messages.ts"
import { type Data, decode, encode } from "../../Protocol/Connect/Wire.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/CallAddress.ts"
import { defectResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { isSealed, readSealed } from "../../Protocol/Seal.ts"
import { type StreamCall, streamCalls } from "../../Protocol/TurnStream.ts"
import { show } from "../../Show.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { Visitor } from "../Http/AccessCheck.ts"
import type { PendingInput, InputBudget } from "../../Engine/InputBudget.ts"
import { checked } from "../../CheckAsEffect.ts"
import { TurnStream } from "../Workers/TurnStream.ts"
import type { SendBuffer, UnreadMemory } from "../Http/UnreadResponses.ts"
import type { RemoteWorkers } from "../../Engine/Workers/RemoteWorkers.ts"
import { endOfStream, Envelopes, envelope } from "./Envelopes.ts"
import { LegacyStream } from "./LegacyStream.ts"

export interface ConnectServerOptions {
  readonly engine: EngineService
  readonly workers: RemoteWorkers
  /** The largest message of a worker, in bytes. */
  readonly maxMessageBytes: number
  readonly inputBudget: InputBudget
  readonly unread: UnreadMemory
  /** Runs an effect in the background, for the lifetime of the server. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
}

/** Maximum number of messages of one worker that are answered at the same time. At this number, reading from the worker pauses. */
const MAX_CALLS = 256

/**
 * Maximum number of bytes that a worker may leave unread, not counting the last push. With more unread bytes the stream
 * ends, since the worker does not read.
 */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024

/** A message or backlog of at most this many bytes does not count against the memory that all connections share. */
const SMALL_BYTES = 64 * 1024

const CONTENT_TYPE = "application/connect+proto"

export class ConnectServer {
  readonly #options: ConnectServerOptions
  readonly #streams = new Set<ConnectStream>()

  constructor(options: ConnectServerOptions) {
    this.#options = options
  }

  /** Answers a request with a stream. `admit` returns the sender, or throws an `IronflowError`. */
  open(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, admit: () => Visitor): void {
    if (headers["content-type"] !== CONTENT_TYPE) {
      stream.respond({ ":status": 415, "accept-post": CONTENT_TYPE }, { endStream: true })
      return
    }
    let visitor: Visitor
    try {
      visitor = admit()
      visitor.caller.checkAlive()
      visitor.caller.checkAction("worker:run")
    } catch (error) {
      if (!isIronflowError(error)) throw error
      // the status is always 200: with another status the client would not see the reason
      stream.respond({ ":status": 200, "content-type": CONTENT_TYPE })
      endWith(stream, error)
      return
    }
    const accepted = new ConnectStream(stream, headers, visitor, this.#options)
    this.#streams.add(accepted)
    stream.once("close", () => this.#streams.delete(accepted))
  }

  /** The number of open streams. */
  get size(): number {
    return this.#streams.size
  }

  /** Ends every stream as soon as its open calls are answered. */
  goAway(): void {
    for (const stream of this.#streams) stream.goAway()
  }
}

class ConnectStream {
  readonly #stream: ServerHttp2Stream
  readonly #options: ConnectServerOptions
  readonly #visitor: Visitor
  readonly #environment: string | undefined
  readonly #envelopes: Envelopes
  /** The memory for a large message that has not arrived completely. */
  #input: PendingInput | undefined
  readonly #unread: SendBuffer
  #peer: TurnStream | LegacyStream | undefined
  #isRegistering = false
  /** Messages that arrived before the registration was answered. */
  #earlyMessages: Array<Data> = []
  #calls = 0
  /** Why nothing is read from the worker: too many calls run, or there is no memory for its message. */
  readonly #pauseReasons = new Set<"calls" | "memory">()
  #isEnded = false
  #isGoingAway = false

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    visitor: Visitor,
    options: ConnectServerOptions
  ) {
    this.#stream = stream
    this.#options = options
    this.#visitor = visitor
    this.#environment =
      headers[ENVIRONMENT_HEADER] || visitor.caller.key?.environment !== undefined
        ? visitor.environment
        : undefined
    const stopWatching = visitor.caller.watch((ended) => {
      if (ended) {
        return this.#end(new UnauthenticatedError("The API key of this worker does not work any more"))
      }
      try {
        visitor.caller.checkAction("worker:run")
        this.#peer?.check()
      } catch (error) {
        if (!isIronflowError(error)) throw error
        this.#end(error)
      }
    })
    stream.once("close", stopWatching)
    this.#envelopes = new Envelopes(options.maxMessageBytes, "The message of the worker")
    this.#unread = options.unread.sendBuffer(() => stream.destroy())
    stream.on("error", () => stream.close())
    stream.on("data", (chunk: Buffer) => this.#read(chunk))
    stream.on("drain", () => {
      this.#unread.set(0)
      this.#pump()
    })
    stream.on("end", () => this.#end())
    stream.once("close", () => {
      this.#isEnded = true
      this.#input?.end()
      this.#unread.set(0)
      if (this.#peer instanceof LegacyStream) this.#peer.onClosed()
    })
    stream.respond({ ":status": 200, "content-type": CONTENT_TYPE })
  }

  goAway(): void {
    this.#isGoingAway = true
    this.#pump()
    if (this.#calls === 0) this.#end()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // From the worker
  // -------------------------------------------------------------------------------------------------------------------

  #read(chunk: Buffer): void {
    if (this.#isEnded) return
    // catches every error from a worker's message: at worst it ends the stream
    try {
      for (const payload of this.#envelopes.read(chunk)) this.#onMessage(decode(workerMessage, payload))
      this.#countIncomplete(this.#envelopes.heldBytes)
    } catch (error) {
      if (isIronflowError(error)) return this.#end(error)
      this.#end(bugError())
      this.#options.fork(
        Effect.logError(
          "A message of a worker could not be handled because of a bug: please report this",
          error
        )
      )
    }
  }

  /** Counts the bytes of an incomplete message against the memory that all connections share. */
  #countIncomplete(heldBytes: number): void {
    if (heldBytes <= SMALL_BYTES) {
      this.#input?.end()
      this.#input = undefined
      return
    }
    this.#input ??= this.#options.inputBudget.begin(this.#stream.session ?? this.#stream, {
      pause: () => this.#pause("memory"),
      resume: () => this.#resume("memory"),
      refuse: (error) => this.#end(error)
    })
    this.#input.setHeld(heldBytes)
  }

  #pause(reason: "calls" | "memory"): void {
    this.#pauseReasons.add(reason)
    this.#stream.pause()
  }

  #resume(reason: "calls" | "memory"): void {
    if (this.#pauseReasons.delete(reason) && this.#pauseReasons.size === 0) this.#stream.resume()
  }

  #onMessage(message: Data): void {
    if (this.#peer === undefined) {
      if (this.#isRegistering) {
        if (this.#earlyMessages.length === MAX_CALLS)
          throw new ValidationError(
            `More than ${MAX_CALLS} messages were sent before the registration of the worker was answered: wait for the answer`
          )
        this.#earlyMessages.push(message)
        return
      }
      if (!isObject(message.register)) {
        throw new ValidationError("The first message of a worker must be `register`")
      }
      this.#isRegistering = true
      return this.#run(this.#register(message.register), true)
    }
    const peer = this.#peer
    if (peer instanceof LegacyStream) return this.#run(peer.onMessage(message))
    if (isObject(message.turnCall)) this.#answer(peer, message.turnCall)
  }

  #register(register: Data): Effect.Effect<void, IronflowError> {
    const { engine, fork, maxMessageBytes, workers } = this.#options
    return Effect.gen({ self: this }, function* () {
      const environment = this.#environment
      if (typeof register.turns === "string" && register.turns !== "") {
        const turns = new TurnStream(workers, {
          transport: CONNECT_TRANSPORT,
          connection: this.#stream,
          environment,
          maxBodyBytes: maxMessageBytes,
          caller: this.#visitor.caller,
          wake: () => this.#pump(),
          // ends a moment later, so that answers are sent first
          end: () => void setImmediate(() => this.#end())
        })
        const registration = yield* checked(() => readText("the registration", register.turns))
        const response = yield* turns.register(registration, isSealed(registration))
        this.#write({ registered: { workerId: register.workerId, turns: turns.seal(response) } })
        this.#peer = turns
        this.#pump()
      } else {
        const legacy = new LegacyStream({
          engine,
          workers,
          environment: environment ?? DEFAULT_ENVIRONMENT,
          caller: this.#visitor.caller,
          send: (message) => this.#write(message),
          end: () => void setImmediate(() => this.#end()),
          fork
        })
        yield* legacy.register(register)
        this.#peer = legacy
        if (this.#isEnded) legacy.onClosed()
      }
      // the permissions of the key may have changed since the request
      yield* checked(() => this.#peer?.check())
      const messages = this.#earlyMessages
      this.#earlyMessages = []
      yield* checked(() => messages.forEach((message) => this.#onMessage(message)))
    })
  }

  /**
   * Answers a call. Throws an `IronflowError` when the call was damaged in transit: then the call gets no answer, since
   * its id may be damaged too.
   */
  #answer(turns: TurnStream, { body, call, id }: Data): void {
    const request = readText("the body of the call", body, callSealedWith(Number(id), String(call)))
    turns.checkSeal(isSealed(request))
    const answered =
      typeof call === "string" && isStreamCall(call)
        ? turns.call(call, request)
        : Effect.fail(
            new ValidationError(`The call must be one of ${streamCalls.join(", ")}, got ${show(call)}`)
          )
    this.#run(
      Effect.matchCause(answered, {
        onSuccess: (text) => {
          this.#write({ turnAnswer: { id, body: turns.seal(text, answerSealedWith(Number(id), "body")) } })
        },
        onFailure: (cause) => {
          const error = Cause.squash(cause)
          const failure = isIronflowError(error) ? failureResponse(error, "rest") : defectResponse("rest")
          const text = turns.seal(JSON.stringify(failure), answerSealedWith(Number(id), "failure"))
          this.#write({ turnAnswer: { id, failure: text } })
        }
      })
    )
  }

  /** Runs the effect of a message. While too many effects run, nothing is read from the worker. */
  #run(effect: Effect.Effect<void, IronflowError>, isRegistration = false): void {
    if (++this.#calls === MAX_CALLS) this.#pause("calls")
    this.#options.fork(
      Effect.matchCauseEffect(effect, {
        onSuccess: () => Effect.sync(() => this.#onCallEnded()),
        onFailure: (cause) => {
          this.#onCallEnded()
          const error = Cause.squash(cause)
          if (isIronflowError(error)) {
            if (isRegistration || error instanceof ValidationError) this.#end(error)
            return isRegistration
              ? Effect.void
              : Effect.logWarning(`A message of a worker had no effect: ${error.message}`)
          }
          this.#end(bugError())
          return Effect.logError(
            "A message of a worker could not be handled because of a bug: please report this",
            cause
          )
        }
      })
    )
  }

  #onCallEnded(): void {
    if (this.#calls-- === MAX_CALLS) this.#resume("calls")
    if (this.#isGoingAway && this.#calls === 0) this.#end()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // To the worker
  // -------------------------------------------------------------------------------------------------------------------

  /** Pushes deliveries as long as the worker reads. */
  #pump(): void {
    const peer = this.#peer
    if (!(peer instanceof TurnStream)) return
    while (!this.#isEnded && !this.#stream.writableNeedDrain && peer.hasMore) {
      this.#write({ turnPush: { body: peer.seal(peer.take()) } })
    }
  }

  #write(message: Data): void {
    if (this.#isEnded) return
    if (this.#stream.writableLength > MAX_UNREAD_BYTES) return void this.#stream.destroy()
    this.#stream.write(envelope(0, encode(engineMessage, message)))
    const unread = this.#stream.writableLength
    if (unread > SMALL_BYTES) this.#unread.set(unread)
  }

  #end(error?: IronflowError): void {
    if (this.#isEnded) return
    this.#isEnded = true
    endWith(this.#stream, error)
  }
}

const bugError = (): ServerError =>
  new ServerError("The engine failed because of a bug; its log has the details", { code: "INTERNAL_ERROR" })

/**
 * The value in the JSON text of a message. Throws an `IronflowError` when the text is damaged, too large or too deep.
 * The seal of the text also covers `sealContext`.
 */
const readText = (what: string, text: unknown, sealContext?: string): unknown =>
  typeof text === "string"
    ? readSealed(text, (text) => safeJsonParse(checkShape(what, text)), sealContext)
    : undefined

const endWith = (stream: ServerHttp2Stream, error?: IronflowError): void => {
  stream.end(endOfStream(error === undefined ? undefined : failureResponse(error, "connect").body))
  // the worker may keep sending data, which must be read although it is ignored
  stream.resume()
  if (error !== undefined) stream.once("finish", () => stream.close())
}

const calls: ReadonlySet<string> = new Set(streamCalls)
const isStreamCall = (call: string): call is StreamCall => calls.has(call)
