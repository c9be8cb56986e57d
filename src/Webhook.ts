/** Webhooks: requests of other services that become events. `serve({ webhooks })` receives them. */
import { ValidationError } from "./Errors.ts"
import type { EventDefinition, EventInput } from "./Event.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"

/** A webhook's request as it came. */
export interface WebhookRequest {
  /** `POST`, or `GET` where `challenge` is asked. */
  readonly method: string
  /** What stands behind `?` in the URL, decoded; of a name that came several times the first value. */
  readonly query: { readonly [name: string]: string }
  /** By lower-case name; of a header that came several times the first value. */
  readonly headers: { readonly [name: string]: string }
  /** The body as text in UTF-8, a byte order mark included. What is no UTF-8 shows as U+FFFD: `bytes` has what was sent. */
  readonly body: string
  /** The body as it came, which is what signatures are made of. */
  readonly bytes: Uint8Array
}

/** The event that a webhook's request stands for. */
export interface WebhookEvent {
  /** Name of the event to emit. */
  readonly name: string
  /** Its data. */
  readonly data: unknown
  /** A request to the same webhook that comes again with the same key and name within 24 hours changes nothing. */
  readonly idempotencyKey?: string
}

/**
 * The event that a webhook's request stands for, by its definition. The data is checked and encoded by its schema when a request comes;
 * `satisfies EventInput<typeof OrderPlaced>` has the compiler check it as well.
 */
export interface DefinedWebhookEvent<D extends EventDefinition = EventDefinition> {
  /** The definition of the event to emit. */
  readonly event: D
  /** Its data, which the definition's schema checks and encodes. */
  readonly data: EventInput<D>
  /** A request to the same webhook that comes again with the same key and name within 24 hours changes nothing. */
  readonly idempotencyKey?: string
}

/**
 * What becomes of a request: an event, several, none at all, or no event and an answer of one's own, whose body is sent as
 * text.
 */
export type WebhookResult =
  | WebhookEvent
  | DefinedWebhookEvent
  | ReadonlyArray<WebhookEvent | DefinedWebhookEvent>
  | Response
  | null
  | undefined
  | void

/** Where requests of another service come to, and what becomes of them. */
// oxlint-disable-next-line typescript/no-explicit-any -- what a payload looks like is known to the one who sends it
export interface WebhookConfig<Payload = any> {
  /** Names the source in the path: `POST <where serve() is mounted>/webhooks/<id>`. */
  readonly id: string
  /** Throws or rejects when the request does not come from the source. */
  readonly verify: (request: WebhookRequest) => unknown
  /**
   * Makes of a verified request what becomes of it. Throws or rejects when it cannot. Several events are stored in their
   * order; those of one name need keys that differ.
   */
  readonly transform: (payload: Payload, request: WebhookRequest) => WebhookResult | Promise<WebhookResult>
  /**
   * Makes the payload of a body that is neither JSON nor a form. By default the payload is what the JSON stands for, or the
   * fields of `application/x-www-form-urlencoded` by name, those that came several times as arrays.
   */
  readonly parse?: (request: WebhookRequest) => Payload | Promise<Payload>
  /**
   * Answers those who ask whether this address is the right one, with `GET` or before they sign anything: called first, for
   * every request. Returns nothing for all others, and throws or rejects to refuse.
   */
  readonly challenge?: (
    request: WebhookRequest
  ) => Response | null | undefined | void | Promise<Response | null | undefined | void>
}

/** A webhook, for `serve`. */
export interface IronflowWebhook {
  /** What `createWebhook` was given. */
  readonly config: WebhookConfig
}

/** Defines a webhook. Throws `ValidationError` when the configuration is not acceptable. */
// oxlint-disable-next-line typescript/no-explicit-any -- as above
export const createWebhook = <Payload = any>(config: WebhookConfig<Payload>): IronflowWebhook => {
  if (!isObject(config))
    throw new ValidationError("A webhook needs a configuration: { id, verify, transform }")
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
        `Webhook "${id}": \`${field}\` must be a function, got ${typeof config[field]}`
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
