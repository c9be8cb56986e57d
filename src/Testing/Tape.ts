/**
 * Records requests to a real server, and their responses, on a tape (JSON). Tests play the tape without the
 * server.
 *
 * Requests are matched by method, path with query, and body. A tape holds no cookies, and no request headers either:
 * those contain API keys.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { TapeError, ValidationError } from "../Errors.ts"
import { CHANNEL_HEADER } from "../Protocol/Http/Channel.ts"

/** A body: text as it is; bytes that are not text as `{ base64 }`. */
const Body = Schema.Union([Schema.String, Schema.Struct({ base64: Schema.String })])

const Exchange = Schema.Struct({
  request: Schema.Struct({
    method: Schema.String,
    path: Schema.String,
    body: Schema.optionalKey(Body)
  }),
  response: Schema.Struct({
    status: Schema.Int,
    headers: Schema.Record(Schema.String, Schema.String),
    body: Schema.optionalKey(Body)
  })
})

const checkTape = Schema.decodeUnknownEffect(Schema.Struct({ exchanges: Schema.Array(Exchange) }))

/** A request and its response. */
export interface TapeExchange extends Schema.Schema.Type<typeof Exchange> {}
/** A request as recorded on a tape. */
export type TapeRequest = TapeExchange["request"]

/** A recording of requests and responses. Store it as JSON. */
export interface Tape {
  /** The exchanges, in the order of their responses. */
  readonly exchanges: Array<TapeExchange>
}

/** Makes an empty tape. */
export const makeTape = (): Tape => ({ exchanges: [] })

/**
 * Sends requests with the client from the context, and records them with their responses. Requests without a
 * response are not recorded.
 */
export const layerRecordingHttpClient = (
  tape: Tape
): Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(HttpClient.HttpClient, (http) =>
      HttpClient.transform(http, (answer, request) =>
        Effect.gen(function* () {
          const tapeRequest = yield* read(request)
          const { arrayBuffer, headers, status } = yield* Effect.tap(answer, failForStreams(tapeRequest))
          const bytes = new Uint8Array(yield* arrayBuffer)
          const response = {
            status,
            headers: Object.fromEntries(
              Object.entries(headers).filter(([name]) => !unrecordedHeaders.has(name))
            ),
            ...(bytes.length === 0 ? {} : { body: encode(bytes) })
          }
          tape.exchanges.push({ request: tapeRequest, response })
          return toResponse(request, response)
        })
      )
    )
  )

/** How a tape is played. */
export interface PlayOptions {
  /** Whether a request matches a recorded one; equal method, path and body by default. */
  readonly matches?: (recorded: TapeRequest, asked: TapeRequest) => boolean
}

/**
 * Answers requests from the tape: each exchange once, the oldest first. A request that is not on the tape, or
 * whose exchanges were all played already, dies with a `TapeError`: the test is wrong then, and a retry cannot
 * help. Fails with `ValidationError` when `tape` is not a tape.
 */
export const layerPlayingHttpClient = (
  tape: Tape,
  { matches = isSameRequest }: PlayOptions = {}
): Layer.Layer<HttpClient.HttpClient, ValidationError> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(
      Effect.mapError(
        checkTape(tape),
        (error) =>
          new ValidationError(`This is not a tape that layerRecordingHttpClient() wrote: ${error.message}`)
      ),
      ({ exchanges }) => {
        const unplayed = [...exchanges]
        return HttpClient.make((request) =>
          Effect.gen(function* () {
            const asked = yield* read(request)
            const index = unplayed.findIndex((exchange) => matches(exchange.request, asked))
            const [played] = index < 0 ? [] : unplayed.splice(index, 1)
            if (played === undefined) return yield* Effect.die(notOnTapeError(asked, exchanges))
            return toResponse(request, played.response)
          })
        )
      }
    )
  )

/**
 * The response headers that are not recorded: cookies, the date, and headers that describe the connection or the
 * encoding of the body.
 */
const unrecordedHeaders = new Set([
  "set-cookie",
  "content-encoding",
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "date",
  // this header would make an Ironflow client switch to a socket, which a tape does not record
  CHANNEL_HEADER
])

const isSameRequest = (recorded: TapeRequest, asked: TapeRequest): boolean =>
  recorded.method === asked.method &&
  recorded.path === asked.path &&
  JSON.stringify(recorded.body) === JSON.stringify(asked.body)

const read = (request: HttpClientRequest.HttpClientRequest): Effect.Effect<TapeRequest> =>
  Effect.suspend(() => {
    const { body, method } = request
    const url = new URL(request.url)
    // converted to a string, a redacted value becomes a placeholder
    for (const [name, value] of request.urlParams.params) url.searchParams.append(name, String(value))
    const asked = { method, path: url.pathname + url.search }
    switch (body._tag) {
      case "Empty":
        return Effect.succeed(asked)
      case "Uint8Array":
        return Effect.succeed({ ...asked, body: encode(body.body) })
      case "Raw":
        if (typeof body.body === "string") return Effect.succeed({ ...asked, body: body.body })
    }
    return Effect.die(
      new TapeError(
        `${describeRequest(asked)} has a body that a tape cannot hold: only text and bytes can be compared`
      )
    )
  })

const failForStreams =
  (asked: TapeRequest) =>
  ({ headers }: HttpClientResponse.HttpClientResponse): Effect.Effect<void> =>
    /event-stream|ndjson/.test(headers["content-type"] ?? "")
      ? Effect.die(
          new TapeError(
            `${describeRequest(asked)} is answered by a stream, and a tape can hold only an answer that ends`
          )
        )
      : Effect.void

const notOnTapeError = (asked: TapeRequest, exchanges: ReadonlyArray<TapeExchange>): TapeError => {
  const same = exchanges.filter(({ request }) => isSameRequest(request, asked)).length
  const otherBodies = exchanges.filter(
    ({ request }) => request.method === asked.method && request.path === asked.path
  ).length
  const why =
    same > 0
      ? `is on the tape ${same === 1 ? "once, and this exchange was" : `${same} times, and all of these exchanges were`} played already`
      : otherBodies > 0
        ? `is on the tape with another body only (${otherBodies === 1 ? "once" : `${otherBodies} times`})`
        : "is not on the tape"
  const body =
    asked.body === undefined ? "" : ` The request has the body ${JSON.stringify(asked.body).slice(0, 200)}.`
  return new TapeError(
    `${describeRequest(asked)} ${why}.${body} Record the tape again if the requests have changed`,
    {
      details: asked
    }
  )
}

const describeRequest = ({ method, path }: TapeRequest): string => `${method} ${path}`

type TapeBody = Schema.Schema.Type<typeof Body>

const encode = (bytes: Uint8Array): TapeBody => {
  try {
    return strictText.decode(bytes)
  } catch {
    return { base64: Buffer.from(bytes).toString("base64") }
  }
}

const strictText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const toResponse = (
  request: HttpClientRequest.HttpClientRequest,
  { body, headers, status }: TapeExchange["response"]
): HttpClientResponse.HttpClientResponse => {
  const content =
    body === undefined ? null : typeof body === "string" ? body : Buffer.from(body.base64, "base64")
  return HttpClientResponse.fromWeb(request, new Response(content, { status, headers }))
}
