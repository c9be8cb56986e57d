/**
 * A subscription over ConnectRPC. The request is one message. The response is a stream with an envelope for
 * each event, until one side ends it.
 *
 * The stream tells less than `/ws`: neither that events were dropped, nor that the client is too slow.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { PassThrough, Readable } from "node:stream"
import { jsonObject } from "../../Client/HttpCalls.ts"
import {
  BodyError,
  type IronflowError,
  SubscriptionError,
  UnavailableError,
  ValidationError
} from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonLimits.ts"
import { defectResponse, type FailureResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { MAX_BUFFER, MAX_FRAME, type Wire, type WSServerMessage } from "../../Protocol/Subscriptions.ts"
import type { Reply } from "../Http/Route.ts"
import type { UnreadMemory } from "../Http/UnreadResponses.ts"
import type { WireFormat } from "../../Engine/PubSub/Connection.ts"
import { wholeEvent } from "../../Engine/PubSub/Feed.ts"
import { endOfStream, envelope, Envelopes } from "./Envelopes.ts"

const CONTENT_TYPE = "application/connect+json"

/** A backlog of at most this many bytes does not count against the memory that all connections share. */
const SMALL_BYTES = 64 * 1024

/** How long a client may take to read the rest of a stream that has ended, in milliseconds. */
const GRACE_MS = 1000

/** After this many milliseconds without data, TCP checks whether the client is still there: the protocol has no heartbeats. */
const KEEP_ALIVE_MS = 30_000

const MAX_LISTENERS = 30

// ---------------------------------------------------------------------------------------------------------------------
// Request and response
// ---------------------------------------------------------------------------------------------------------------------

/** Whether the request asks for a stream, in the encoding that is answered here. */
export const asksForStream = ({ headers }: Pick<IncomingMessage, "headers">): boolean =>
  typeOf(headers["content-type"]) === CONTENT_TYPE

/** Whether the body of the request is plain JSON. Such a request gets no stream, but its body can be read. */
export const isPlainCall = ({ headers }: Pick<IncomingMessage, "headers">): boolean =>
  typeOf(headers["content-type"] ?? "application/json") === "application/json"

const typeOf = (contentType: string | undefined): string =>
  (contentType ?? "").split(";", 1)[0]!.trim().toLowerCase()

export const unsupportedType = ({ headers }: Pick<IncomingMessage, "headers">): IronflowError =>
  new BodyError(
    `This call is answered with a stream, and only in the encoding "${CONTENT_TYPE}", but the request has the content type ` +
      `"${(headers["content-type"] ?? "").slice(0, 64)}": make the client send JSON (with @connectrpc/connect: \`useBinaryFormat: false\`)`,
    { code: "BODY_UNSUPPORTED" }
  )

/** The only message in the body of a request for a stream. Throws an `IronflowError` for any other body. */
export const readMessage = (body: Buffer): unknown => {
  const envelopes = new Envelopes(MAX_FRAME, "The request")
  const [message, second] = envelopes.read(body)
  if (message === undefined || second !== undefined || envelopes.heldBytes > 0) {
    throw new ValidationError(
      "The body of a request for a stream must be one message in an envelope: a byte of flags, the length of the message in four bytes, and the message as JSON"
    )
  }
  const text = message.toString()
  const value = text === "" ? {} : safeJsonParse(checkShape("the request", text))
  if (value === undefined) throw new ValidationError("The message of the request is not valid JSON")
  return value
}

/** The reply to a call that fails at once: a stream that only has the failure. */
export const endedStream = ({ body }: FailureResponse): Reply => ({
  status: 200,
  type: CONTENT_TYPE,
  body: Readable.from([endOfStream(body)], { objectMode: false })
})

/**
 * Sends the head of the response before there is an event. Makes TCP notice when the client has silently gone.
 */
export const beginStream = ({ socket }: IncomingMessage, response: ServerResponse): void => {
  // a stream that is piped into the response adds about a dozen listeners
  response.setMaxListeners(MAX_LISTENERS)
  response.once("pipe", () => {
    response.flushHeaders()
    // no timeout: a stream is silent as long as no event happens
    response.setTimeout(0)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// The stream
// ---------------------------------------------------------------------------------------------------------------------

export class EventStream {
  // with these limits, all that the reader has not taken counts as backlog
  readonly #out = new PassThrough({ readableHighWaterMark: 1, writableHighWaterMark: 1 })
  #isOver = false
  /** The connection that the engine uses for the subscription. */
  readonly wire: Wire
  readonly wireFormat: WireFormat

  constructor(unread: UnreadMemory) {
    const out = this.#out
    const buffer = unread.sendBuffer(() => out.destroy())
    /**
     * Returns the size of the backlog. When memory is short, returns at least the largest backlog that any
     * subscription accepts, so that the engine sends nothing more.
     */
    const weigh = (): number => {
      const bytes = out.writableLength + out.readableLength
      buffer.set(bytes > SMALL_BYTES ? bytes : 0)
      return bytes > 0 && unread.isPressed ? Math.max(bytes, MAX_BUFFER) : bytes
    }
    const wire: Wire = {
      send: (frame) => {
        if (this.#isOver) return
        out.write(envelope(0, typeof frame === "string" ? Buffer.from(frame) : frame))
        weigh()
      },
      close: (code) =>
        this.#endWith(code === GOING_AWAY ? failureResponse(closingError(), "connect") : bugResponse()),
      get backlog() {
        return weigh()
      },
      // nothing to pause: the client sends no message but the request
      pause: () => undefined,
      resume: () => undefined,
      onText: () => undefined,
      onClose: () => undefined,
      onDrain: () => undefined
    }
    this.wire = wire
    this.wireFormat = { name: "connect", encode, say: (message, error) => this.#say(message, error) }
    out.on("drain", () => {
      weigh()
      wire.onDrain()
    })
    // the client has gone; `close` follows, and is handled below
    out.on("error", () => undefined)
    out.once("close", () => {
      this.#isOver = true
      buffer.set(0)
      wire.onClose(GOING_AWAY, "the stream is closed")
    })
  }

  get reply(): Reply {
    return { status: 200, type: CONTENT_TYPE, body: this.#out }
  }

  /** Calls `listener` when the stream has ended and was read to its end, or was given up. */
  onClose(listener: () => void): void {
    this.#out.once("close", listener)
  }

  /** Passes the subscription on to the engine. */
  subscribe(pattern: string, options: { readonly [name: string]: unknown }): void {
    this.wire.onText(JSON.stringify({ type: "subscribe", subscription: { pattern, options } }))
  }

  end(error: IronflowError): void {
    this.#endWith(failureResponse(error, "connect"))
  }

  /** Ends the stream, and tells the client to subscribe again later. */
  goAway(): void {
    this.end(closingError())
  }

  #endWith({ body }: FailureResponse): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#out.end(endOfStream(body))
    // the engine sends no more, and what the client does not read is dropped after a while
    this.wire.onClose(GOING_AWAY, "the stream is over")
    const timer = setTimeout(() => this.#out.destroy(), GRACE_MS).unref()
    this.#out.once("close", () => clearTimeout(timer))
  }

  #say(message: WSServerMessage, error?: IronflowError): void {
    switch (message.type) {
      case "subscription_result":
        for (const { code, message: reason, status } of message.results) {
          if (status === "error") this.#endWith(failureOf(code, reason, error))
        }
        return
      case "subscription_error":
        return message.retrying ? undefined : this.#endWith(failureOf(message.code, message.message))
      case "error":
        return this.#endWith(failureOf(message.code, message.message))
    }
  }
}

/** The close code of a `Wire` whose server stops, as for WebSockets. */
const GOING_AWAY = 1001

const closingError = (): IronflowError =>
  new UnavailableError("The engine is about to stop: subscribe again when it is back", { code: "CLOSING" })

const bugResponse = (): FailureResponse => defectResponse("connect")

const failureOf = (code = "SUBSCRIPTION_ERROR", message = "", error?: IronflowError): FailureResponse =>
  code === "INTERNAL_ERROR" && error === undefined
    ? bugResponse()
    : failureResponse(error ?? new SubscriptionError(message, { code, retryable: false }), "connect")

/**
 * Encodes an event as `PubSubService` does. There, data is a `Struct`, which is an object: any other value
 * becomes the field `value` of an object.
 */
const encode: WireFormat["encode"] = (
  { includeMetadata, subscriptionId, target },
  item,
  { attempt, eventId }
) => {
  const data = target.matchesEntity === undefined ? item.data : wholeEvent(item)
  return jsonObject({
    subscriptionId: JSON.stringify(subscriptionId),
    eventId: JSON.stringify(eventId),
    topic: JSON.stringify(item.name),
    data: data.startsWith("{") ? data : `{"value":${data}}`,
    metadata: includeMetadata
      ? jsonObject({
          timestamp: `"${new Date(item.timestamp).toISOString()}"`,
          source: item.source === undefined ? undefined : JSON.stringify(item.source),
          // in this engine, all events have this namespace
          namespace: '"default"',
          custom: item.metadata
        })
      : undefined,
    sequence: `"${item.position}"`,
    deliveryAttempt: String(attempt)
  })
}
