/** Requests of other services: verified, made events of, and handed to the server. */
import * as Effect from "effect/Effect"
import type { Connection } from "../Client/HttpConnection.ts"
import { IronflowError, toError } from "../Errors.ts"
import { checkEventName } from "../Event.ts"
import { encodeJson, isObject, safeJsonParse } from "../Json.ts"
import { checkShape } from "../JsonShape.ts"
import { checkSize, eventBytes, nameLength } from "../Limits.ts"
import { endpoints } from "../Protocol/Http/Endpoints.ts"
import { show } from "../Show.ts"
import type { IronflowWebhook, WebhookEvent } from "../Webhook.ts"
import { isSuccess } from "../Worker/ServerLink.ts"
import type { ServeRequest } from "./Http.ts"

/** The largest body of a webhook's request: what is more would make no event. */
export const webhookBytes = eventBytes

/** Name of the webhook that the URL is for, `undefined` when it is for none. */
export const webhookIn = (url: string): string | undefined => {
  const path = url.replace(/[?#].*$/s, "")
  const segment = /\/webhooks\/([^/]+)/.exec(path)?.[1]
  if (segment === undefined) return undefined
  try {
    return decodeURIComponent(segment)
  } catch {
    // it is no encoded name, and so the name of no webhook
    return segment
  }
}

/**
 * Receives a request; succeeds with the event once the server has it. Fails with an error whose `status` tells the sender
 * what to do: 4xx that the request is not acceptable, 5xx to send it again.
 */
export const receive = (
  { config }: IronflowWebhook,
  request: ServeRequest,
  bytes: Uint8Array,
  connection: Connection,
  timeoutMs: number
): Effect.Effect<WebhookEvent, IronflowError> =>
  Effect.gen(function* () {
    const what = `Webhook "${config.id}"`
    const body = Buffer.from(bytes).toString("utf8")
    const event = yield* Effect.gen(function* () {
      yield* Effect.tryPromise({
        try: async () => void (await config.verify({ body, headers: request.headers })),
        catch: (cause) => failure(toError(cause).message, "VERIFY_FAILED", 401, cause)
      })
      const payload = yield* Effect.try({
        try: () => safeJsonParse<unknown>(checkShape(`the body of ${what}`, body), notJson),
        catch: (cause) => failure(toError(cause).message, "TRANSFORM_FAILED", 400, cause)
      })
      if (payload === notJson) {
        return yield* Effect.fail(failure(`${what}: the body is not JSON`, "TRANSFORM_FAILED", 400))
      }
      return yield* Effect.tryPromise({
        try: async () => checkEvent(await config.transform(payload), what),
        catch: (cause) => failure(toError(cause).message, "TRANSFORM_FAILED", 400, cause)
      })
    }).pipe(
      Effect.timeoutOrElse({
        duration: timeoutMs,
        orElse: () =>
          Effect.fail(
            failure(
              `${what}: its verification took longer than ${timeoutMs} ms. Send it again`,
              "WEBHOOK_TIMEOUT",
              503
            )
          )
      })
    )
    yield* emit(event, config.id, what, connection)
    return event
  })

const emit = (
  { data, idempotencyKey, name }: WebhookEvent,
  webhook: string,
  what: string,
  connection: Connection
): Effect.Effect<void, IronflowError> =>
  Effect.matchEffect(
    connection.send({
      method: "POST",
      path: endpoints.restEmit.path,
      body: JSON.stringify({ name, data, webhook, ...(idempotencyKey ? { idempotencyKey } : {}) }),
      what
    }),
    {
      // where the server is, is nothing for strangers
      onFailure: (error) =>
        Effect.fail(
          failure(`${what}: the event could not be stored now. Send it again`, "EMIT_FAILED", 502, error)
        ),
      onSuccess: (answer) =>
        isSuccess(answer)
          ? Effect.void
          : Effect.fail(
              failure(
                `${what}: the server does not take event "${name}" (${answer.status}): ${answer.text.slice(0, 1000)}`,
                "EMIT_FAILED",
                502
              )
            )
    }
  )

const checkEvent = (event: unknown, what: string): WebhookEvent => {
  if (!isObject(event)) throw new Error(`${what}: \`transform\` must return { name, data }`)
  const { data, idempotencyKey, name } = event
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
    ...(idempotencyKey ? { idempotencyKey } : {})
  }
}

const notJson = Symbol("not JSON")

const failure = (message: string, code: string, status: number, cause?: unknown): IronflowError =>
  new IronflowError(message, { code, status, ...(cause === undefined ? {} : { cause }) })
