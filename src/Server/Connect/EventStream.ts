/**
 * A subscription over ConnectRPC: one message asks for it, and the answer is a stream with an envelope for each event, until one
 * of the two sides ends it.
 *
 * The stream says less than `/ws`: nothing of events that were dropped, or of a client that does not keep up.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { PassThrough, Readable } from "node:stream"
import { object } from "../../Client/HttpCalls.ts"
import {
  BodyError,
  type IronflowError,
  SubscriptionError,
  UnavailableError,
  ValidationError
} from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonShape.ts"
import { defectResponse, type FailureResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { MAX_BUFFER, MAX_FRAME, type Wire, type WSServerMessage } from "../../Protocol/Subscriptions.ts"
import type { Reply } from "../Http/Route.ts"
import type { Unread } from "../Http/Unread.ts"
import type { Tongue } from "../../Engine/PubSub/Connection.ts"
import { wholeEvent } from "../../Engine/PubSub/Feed.ts"
import { endOfStream, envelope, Envelopes } from "./Envelopes.ts"

const CONTENT_TYPE = "application/connect+json"

/** So little that waits to be read does not count. */
const SMALL = 64 * 1024

/** How long a client may take to read what it has not, when its stream is over, milliseconds. */
const GRACE_MS = 1000

/** After what silence of a connection its client is asked whether it is there, milliseconds: by TCP, which the protocol leaves it to. */
const KEEP_ALIVE_MS = 30_000

const MAX_LISTENERS = 30

// ---------------------------------------------------------------------------------------------------------------------
// Request and answer
// ---------------------------------------------------------------------------------------------------------------------

/** Whether it is a request for a stream that can be answered. */
export const asksForStream = ({ headers }: Pick<IncomingMessage, "headers">): boolean =>
  typeOf(headers["content-type"]) === CONTENT_TYPE

/** Whether it is a plain call, which is no way to get a stream; it can be read all the same. */
export const isPlainCall = ({ headers }: Pick<IncomingMessage, "headers">): boolean =>
  typeOf(headers["content-type"] ?? "application/json") === "application/json"

const typeOf = (contentType: string | undefined): string =>
  (contentType ?? "").split(";", 1)[0]!.trim().toLowerCase()

export const unsupportedType = ({ headers }: Pick<IncomingMessage, "headers">): IronflowError =>
  new BodyError(
    `This call is answered with a stream, as "${CONTENT_TYPE}" only, and the request has the content type ` +
      `"${(headers["content-type"] ?? "").slice(0, 64)}": have the client send JSON (\`useBinaryFormat: false\`)`,
    { code: "BODY_UNSUPPORTED" }
  )

/** The one message of a request for a stream. Throws an `IronflowError` for anything else. */
export const readMessage = (body: Buffer): unknown => {
  const envelopes = new Envelopes(MAX_FRAME, "The request")
  const [message, second] = envelopes.read(body)
  if (message === undefined || second !== undefined || envelopes.held > 0) {
    throw new ValidationError(
      "The body of a request for a stream is one message in an envelope: a byte of flags, its length in four bytes, and JSON"
    )
  }
  const text = message.toString()
  const value = text === "" ? {} : safeJsonParse(checkShape("the request", text))
  if (value === undefined) throw new ValidationError("The message of the request is not valid JSON")
  return value
}

/** A stream that is over before it has begun. */
export const endedStream = ({ body }: FailureResponse): Reply => ({
  status: 200,
  type: CONTENT_TYPE,
  body: Readable.from([endOfStream(body)], { objectMode: false })
})

/** Has the head of an answer sent before there is an event, and notices when the other end is gone without a word. */
export const beginStream = ({ socket }: IncomingMessage, response: ServerResponse): void => {
  // what is piped into it listens a dozen times
  response.setMaxListeners(MAX_LISTENERS)
  response.once("pipe", () => {
    response.flushHeaders()
    // it may be quiet for as long as nothing happens
    response.setTimeout(0)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// The stream
// ---------------------------------------------------------------------------------------------------------------------

export class EventStream {
  // whatever its reader has not taken counts as waiting
  readonly #out = new PassThrough({ readableHighWaterMark: 1, writableHighWaterMark: 1 })
  #isOver = false
  /** The engine's end. */
  readonly wire: Wire
  readonly tongue: Tongue

  constructor(unread: Unread) {
    const out = this.#out
    const line = unread.line(() => out.destroy())
    /** What waits to be read counts as the most that anybody lets wait, when there is hardly memory for it. */
    const weigh = (): number => {
      const bytes = out.writableLength + out.readableLength
      line.set(bytes > SMALL ? bytes : 0)
      return bytes > 0 && unread.isPressed ? Math.max(bytes, MAX_BUFFER) : bytes
    }
    const wire: Wire = {
      send: (frame) => {
        if (this.#isOver) return
        out.write(envelope(0, typeof frame === "string" ? Buffer.from(frame) : frame))
        weigh()
      },
      close: (code) => this.#endWith(code === GOING_AWAY ? failureResponse(stops(), "connect") : bug()),
      get backlog() {
        return weigh()
      },
      // it has nothing more to say
      pause: () => undefined,
      resume: () => undefined,
      onText: () => undefined,
      onClose: () => undefined,
      onDrain: () => undefined
    }
    this.wire = wire
    this.tongue = { name: "connect", encode, say: (message, error) => this.#say(message, error) }
    out.on("drain", () => {
      weigh()
      wire.onDrain()
    })
    // `close` follows: its client has gone
    out.on("error", () => undefined)
    out.once("close", () => {
      this.#isOver = true
      line.set(0)
      wire.onClose(GOING_AWAY, "the stream is closed")
    })
  }

  get reply(): Reply {
    return { status: 200, type: CONTENT_TYPE, body: this.#out }
  }

  /** Calls `listener` when it is over, and has been read or given up. */
  onClose(listener: () => void): void {
    this.#out.once("close", listener)
  }

  /** Asks the engine for the subscription. */
  subscribe(pattern: string, options: { readonly [name: string]: unknown }): void {
    this.wire.onText(JSON.stringify({ type: "subscribe", subscription: { pattern, options } }))
  }

  end(error: IronflowError): void {
    this.#endWith(failureResponse(error, "connect"))
  }

  /** Tells the client to come back later. */
  goAway(): void {
    this.end(stops())
  }

  #endWith({ body }: FailureResponse): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#out.end(endOfStream(body))
    // nothing more comes, and what it has not read is not kept for ever
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

/** As the wire of a WebSocket says it. */
const GOING_AWAY = 1001

const stops = (): IronflowError =>
  new UnavailableError("The engine stops: subscribe again", { code: "CLOSING" })

const bug = (): FailureResponse => defectResponse("connect")

const failureOf = (code = "SUBSCRIPTION_ERROR", message = "", error?: IronflowError): FailureResponse =>
  code === "INTERNAL_ERROR" && error === undefined
    ? bug()
    : failureResponse(error ?? new SubscriptionError(message, { code, retryable: false }), "connect")

/** An event as `PubSubService` has it. Its data is a `Struct`, which is an object: anything else is the `value` of one. */
const encode: Tongue["encode"] = (
  { includeMetadata, subscriptionId, target },
  item,
  { attempt, eventId }
) => {
  const data = target.fitsEntity === undefined ? item.data : wholeEvent(item)
  return object({
    subscriptionId: JSON.stringify(subscriptionId),
    eventId: JSON.stringify(eventId),
    topic: JSON.stringify(item.name),
    data: data.startsWith("{") ? data : `{"value":${data}}`,
    metadata: includeMetadata
      ? object({
          timestamp: `"${new Date(item.timestamp).toISOString()}"`,
          source: item.source === undefined ? undefined : JSON.stringify(item.source),
          // the only one of this engine
          namespace: '"default"',
          custom: item.metadata
        })
      : undefined,
    sequence: `"${item.position}"`,
    deliveryAttempt: String(attempt)
  })
}
