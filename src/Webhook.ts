/** Webhooks: requests from other services that become events. `serve({ webhooks })` receives them. */
import { ValidationError } from "./Errors.ts"
import type { EventDefinition, EventInput } from "./Event.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"
import { show } from "./Show.ts"

/** A request to a webhook. */
export interface WebhookRequest {
  /** `POST`; for a `challenge` also `GET` or `HEAD`. */
  readonly method: string
  /** The query parameters of the URL, decoded. A repeated parameter has only its first value. */
  readonly query: { readonly [name: string]: string }
  /**
   * The headers, by lower-case name. The values of a repeated header are as the runtime gives them, in most cases
   * joined by commas.
   */
  readonly headers: { readonly [name: string]: string }
  /**
   * The body as a UTF-8 string, with a byte order mark if it has one. Invalid UTF-8 becomes U+FFFD; `bytes`
   * has the original.
   */
  readonly body: string
  /** The body as it was sent: the bytes from which signatures are computed. */
  readonly bytes: Uint8Array
}

/** An event into which a webhook converts a request. */
export interface WebhookEvent {
  /** Name of the event to emit. */
  readonly name: string
  /** Its data. */
  readonly data: unknown
  /** Within 24 hours, another request to the same webhook with this key and event name has no effect. */
  readonly idempotencyKey?: string
}

/**
 * An event by definition. Its schema checks and encodes the data when a request arrives. With
 * `satisfies EventInput<typeof OrderPlaced>` the compiler checks it too.
 */
export interface DefinedWebhookEvent<D extends EventDefinition = EventDefinition> {
  /** The definition of the event to emit. */
  readonly event: D
  /** Its data, checked and encoded by the definition's schema. */
  readonly data: EventInput<D>
  /** Within 24 hours, another request to the same webhook with this key and event name has no effect. */
  readonly idempotencyKey?: string
}

/**
 * What a request becomes: one event, several or none. With an answer of your own it becomes no event, and the
 * body of the answer is sent as text.
 */
export type WebhookResult =
  | WebhookEvent
  | DefinedWebhookEvent
  | ReadonlyArray<WebhookEvent | DefinedWebhookEvent>
  | Response
  | null
  | undefined
  | void

/** A webhook: its path, how it verifies requests, and how it converts them to events. */
// oxlint-disable-next-line typescript/no-explicit-any -- what a payload looks like is known to the one who sends it
export interface WebhookConfig<Payload = any> {
  /** Id of the webhook in its path: `POST <where serve() is mounted>/webhooks/<id>`. */
  readonly id: string
  /** Verifies that the request comes from the expected service. Throws or rejects if it does not. */
  readonly verify: (request: WebhookRequest) => unknown
  /**
   * Converts a verified request to its result. Throws or rejects when it cannot. Several events are stored in
   * their order; if they have idempotency keys, events of the same name need different ones.
   */
  readonly transform: (payload: Payload, request: WebhookRequest) => WebhookResult | Promise<WebhookResult>
  /**
   * Parses the body of every request, for bodies that are neither JSON nor a form. By default the payload is
   * the parsed JSON, or has the fields of `application/x-www-form-urlencoded` by their names. A repeated field is then
   * an array.
   */
  readonly parse?: (request: WebhookRequest) => Payload | Promise<Payload>
  /**
   * Answers the requests by which a service verifies the webhook's address. Such a request is a `GET` request, or has
   * no signature yet. `challenge` is called first, for every request. It returns nothing for a request of another kind,
   * and throws or rejects to refuse a request.
   */
  readonly challenge?: (
    request: WebhookRequest
  ) => Response | null | undefined | void | Promise<Response | null | undefined | void>
}

/** A webhook, for `serve`. */
export interface IronflowWebhook {
  /** The configuration given to `createWebhook`. */
  readonly config: WebhookConfig
}

/** Defines a webhook. Throws `ValidationError` when the configuration is invalid. */
// oxlint-disable-next-line typescript/no-explicit-any -- as above
export const createWebhook = <Payload = any>(config: WebhookConfig<Payload>): IronflowWebhook => {
  if (!isObject(config))
    throw new ValidationError(
      `The configuration of a webhook must be an object such as { id, verify, transform }, got ${show(config)}`
    )
  const id = checkName("webhook id", config.id)
  if (/[\s/?#%]/.test(id)) {
    throw new ValidationError(
      `The webhook id "${id}" is part of a path: it must not contain white space, /, ?, # or %`
    )
  }
  for (const field of ["verify", "transform", "parse", "challenge"] as const) {
    const isOptional = field === "parse" || field === "challenge"
    if (typeof config[field] !== "function" && !(isOptional && config[field] === undefined)) {
      throw new ValidationError(
        `Webhook "${id}": \`${field}\` must be a function, got ${show(config[field])}`
      )
    }
  }
  checkKeys(
    config,
    { id: true, verify: true, transform: true, challenge: true, parse: true } satisfies Keys<WebhookConfig>,
    `Webhook "${id}"`
  )
  return { config }
}
