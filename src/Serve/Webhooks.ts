/** Webhooks: verifies requests of other services, makes events of them, and sends the events to the Ironflow server. */
import * as Effect from "effect/Effect"
import type { Connection } from "../Client/HttpConnection.ts"
import { type IronflowError, toError, type WebhookCode, WebhookError } from "../Errors.ts"
import { jsonCodec } from "../EffectSchema.ts"
import { checkEventName } from "../Event.ts"
import { encodeEvent, type GivenEvent, isByDefinition } from "../EventEncoding.ts"
import { encodeJson, isObject } from "../Json.ts"
import { checkIdempotencyKey, checkSize, eventBytes, nameLength, writesAtOnce } from "../Limits.ts"
import { restEmit } from "../Protocol/Events.ts"
import { show, showMs } from "../Show.ts"
import type { IronflowWebhook, WebhookEvent, WebhookRequest } from "../Webhook.ts"
import { isSuccess } from "../Worker/ServerLink.ts"
import type { ServeRequest, ServeResponse } from "./Http.ts"
import { readPayload } from "./WebhookPayload.ts"

/** The largest body of a webhook request, in bytes: a larger body would not fit in an event. */
export const webhookBytes = eventBytes

/** The HTTP methods that a webhook accepts. All but `POST` are only for the webhook's `challenge`. */
const methods: ReadonlySet<string> = new Set(["POST", "GET", "HEAD"])

/** Fails unless webhooks accept this HTTP method. */
export const checkMethod = (id: string, method = "POST"): Effect.Effect<void, IronflowError> =>
  methods.has(method)
    ? Effect.void
    : Effect.fail(
        webhookError(`Webhook "${id}" takes POST, got ${show(method, 32)}`, "METHOD_NOT_ALLOWED", 405)
      )

/** The id of the webhook in the URL; `undefined` when the URL has none. */
export const webhookIdOf = (url: string): string | undefined => {
  const path = url.replace(/[?#].*$/s, "")
  const segment = /\/webhooks\/([^/]+)/.exec(path)?.[1]
  if (segment === undefined) return undefined
  try {
    return decodeURIComponent(segment)
  } catch {
    // invalid percent-encoding: no webhook has this id
    return segment
  }
}

/** An event of a request as it is sent to the server: with a name, encoded data, and the version of its definition. */
interface NamedWebhookEvent extends WebhookEvent {
  readonly version?: number
}

/** What became of a request: its events were stored, it was ignored, or the webhook gave a response of its own. */
export type WebhookOutcome =
  | { readonly _tag: "Stored"; readonly events: ReadonlyArray<NamedWebhookEvent> }
  | { readonly _tag: "Ignored" }
  | { readonly _tag: "Answered"; readonly response: ServeResponse }

/**
 * Receives a request, and succeeds once the server has stored its events. Fails with an error whose `status`
 * tells the sender what to do: 4xx means that the request is invalid, and 5xx that it should be sent again.
 */
export const receiveWebhook = (
  { config }: IronflowWebhook,
  { headers, method = "POST", url }: ServeRequest,
  bytes: Uint8Array,
  connection: Connection,
  timeoutMs: number
): Effect.Effect<WebhookOutcome, IronflowError> =>
  Effect.gen(function* () {
    const what = `Webhook "${config.id}"`
    const request: WebhookRequest = {
      method,
      query: queryOf(url),
      headers,
      body: Buffer.from(bytes).toString("utf8"),
      bytes
    }
    let phase = "challenge"
    const outcome = yield* Effect.gen(function* () {
      const answer = yield* callWebhook("VERIFY_FAILED", 401, async () => {
        const answer = await config.challenge?.(request)
        if (answer === undefined || answer === null) return undefined
        if (isResponse(answer)) return readResponse(answer)
        throw new Error(`${what}: \`challenge\` must return a Response or nothing`)
      })
      if (answer !== undefined) return answer
      if (method === "GET" || method === "HEAD") {
        return yield* Effect.fail(
          webhookError(
            `${what} takes POST, and a ${method} request only if its \`challenge\` answers the request`,
            "METHOD_NOT_ALLOWED",
            405
          )
        )
      }
      phase = "verify"
      yield* callWebhook("VERIFY_FAILED", 401, async () => void (await config.verify(request)))
      phase = config.parse === undefined ? "transform" : "parse"
      return yield* callWebhook("TRANSFORM_FAILED", 400, async () => {
        const payload = await (config.parse === undefined
          ? readPayload(request, what)
          : config.parse(request))
        phase = "transform"
        const result = await config.transform(payload, request)
        if (isResponse(result)) return readResponse(result)
        const events = checkEvents(await encodeResult(result), what)
        return events.length === 0 ? ignoredOutcome : storedOutcome(events)
      })
    }).pipe(
      Effect.timeoutOrElse({
        duration: timeoutMs,
        orElse: () =>
          Effect.fail(
            webhookError(
              `${what}: its \`${phase}\` did not end within ${showMs(timeoutMs)} of the request. Send the request again`,
              "WEBHOOK_TIMEOUT",
              503
            )
          )
      })
    )
    if (outcome._tag === "Stored") {
      // the events are sent one after the other, so that the log has them in this order
      for (const event of outcome.events) yield* emitEvent(event, config.id, what, connection)
    }
    return outcome
  })

/** Calls code of the webhook. If the code throws, fails with the message of the error, which the sender receives. */
const callWebhook = <A>(
  code: WebhookCode,
  status: number,
  run: () => Promise<A>
): Effect.Effect<A, IronflowError> =>
  Effect.tryPromise({ try: run, catch: (cause) => webhookError(toError(cause).message, code, status, cause) })

const queryOf = (url: string): { readonly [name: string]: string } => {
  const at = url.indexOf("?")
  if (at === -1) return {}
  const fields = [...new URLSearchParams(url.slice(at).replace(/#.*$/s, ""))]
  // reversed, so that the first value of a name wins
  return Object.fromEntries(fields.toReversed())
}

// Other realms and packages have classes of their own, so the shape is checked, and not `instanceof`.
const isResponse = (value: unknown): value is Response =>
  isObject(value) &&
  typeof value.status === "number" &&
  typeof value.text === "function" &&
  isObject(value.headers) &&
  typeof value.headers.get === "function"

const readResponse = async (response: Response): Promise<WebhookOutcome> => ({
  _tag: "Answered",
  response: {
    status: response.status,
    headers: Object.fromEntries([...response.headers].filter(([name]) => !hopByHopHeaders.has(name))),
    body: await response.text()
  }
})

/** Response headers that are about the transfer and not about the content. They are not passed on. */
const hopByHopHeaders = new Set([
  "connection",
  "content-encoding",
  "content-length",
  "keep-alive",
  "trailer",
  "transfer-encoding"
])

const ignoredOutcome: WebhookOutcome = { _tag: "Ignored" }

const storedOutcome = (events: ReadonlyArray<NamedWebhookEvent>): WebhookOutcome => ({
  _tag: "Stored",
  events
})

const emitEvent = (
  { data, idempotencyKey, name, version }: NamedWebhookEvent,
  webhook: string,
  what: string,
  connection: Connection
): Effect.Effect<void, IronflowError> =>
  Effect.matchEffect(
    connection.send({
      method: "POST",
      path: restEmit.path,
      body: JSON.stringify({ name, data, version, webhook, ...(idempotencyKey ? { idempotencyKey } : {}) }),
      what
    }),
    {
      // the message does not contain the address of the Ironflow server, which strangers must not learn
      onFailure: (error) =>
        Effect.fail(
          webhookError(
            `${what}: the event could not be stored now. Send the request again`,
            "EMIT_FAILED",
            502,
            error
          )
        ),
      onSuccess: (answer) =>
        isSuccess(answer)
          ? Effect.void
          : Effect.fail(
              webhookError(
                `${what}: the server refused event "${name}" (${answer.status}): ${answer.text.slice(0, 1000)}`,
                "EMIT_FAILED",
                502
              )
            )
    }
  )

/** The result of `transform`. An event that was made with its definition gets the name of the definition. */
const encodeResult = async (result: unknown): Promise<unknown> => {
  if (Array.isArray(result)) return Promise.all(result.map(encodeEventData))
  return encodeEventData(result)
}

const encodeEventData = async (event: unknown): Promise<unknown> => {
  if (isByDefinition(event)) return encodeEvent<GivenEvent>(event, jsonCodec)
  // only an event that was given by its definition has a version
  return isObject(event) ? { ...event, version: undefined } : event
}

const checkEvents = (result: unknown, what: string): ReadonlyArray<NamedWebhookEvent> => {
  if (result === undefined || result === null) return []
  if (!Array.isArray(result)) return [checkEvent(result, what)]
  if (result.length > writesAtOnce) {
    throw new Error(`${what}: one request may make ${writesAtOnce} events at most, got ${result.length}`)
  }
  const events = result.map((event) => checkEvent(event, what))
  const keys = new Set<string>()
  for (const { idempotencyKey, name } of events) {
    if (idempotencyKey === undefined) continue
    const key = `${name} ${idempotencyKey}`
    if (keys.has(key)) {
      throw new Error(
        `${what}: two events "${name}" of one request have the idempotency key ${show(idempotencyKey)}, so that the second ` +
          "would be taken for the first: give each a key of its own"
      )
    }
    keys.add(key)
  }
  return events
}

const checkEvent = (event: unknown, what: string): NamedWebhookEvent => {
  if (!isObject(event)) {
    throw new Error(
      `${what}: \`transform\` must return { name, data }, an array of them, a Response, or nothing`
    )
  }
  const { data, idempotencyKey, name, version } = event
  checkEventName(name)
  checkSize(
    `Data of event ${show(name, nameLength)}`,
    encodeJson(data, `Data of event ${show(name, nameLength)}`),
    eventBytes
  )
  if (idempotencyKey !== undefined && idempotencyKey !== null && typeof idempotencyKey !== "string") {
    throw new Error(`${what}: \`idempotencyKey\` must be a string, got ${typeof idempotencyKey}`)
  }
  return {
    name: String(name),
    data: data ?? null,
    ...(typeof version === "number" ? { version } : {}),
    ...(idempotencyKey ? { idempotencyKey: checkIdempotencyKey(idempotencyKey) } : {})
  }
}

const webhookError = (message: string, code: WebhookCode, status: number, cause?: unknown): WebhookError =>
  new WebhookError(message, { code, status, ...(cause === undefined ? {} : { cause }) })
