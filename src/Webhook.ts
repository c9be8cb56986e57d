/** Webhooks: requests of other services that become events. `serve({ webhooks })` receives them. */
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"

/** A webhook's request as `verify` sees it. */
export interface WebhookRequest {
  /** The body as it came. */
  readonly body: string
  /** By lower-case name; of a header that came several times the first value. */
  readonly headers: { readonly [name: string]: string }
}

/** The event that a webhook's request stands for. */
export interface WebhookEvent {
  readonly name: string
  readonly data: unknown
  /** A request to the same webhook that comes again with the same key and name within 24 hours changes nothing. */
  readonly idempotencyKey?: string
}

// oxlint-disable-next-line typescript/no-explicit-any -- what a payload looks like is known to the one who sends it
export interface WebhookConfig<Payload = any> {
  /** Names the source in the path: `POST <where serve() is mounted>/webhooks/<id>`. */
  readonly id: string
  /** Throws or rejects when the request does not come from the source. */
  readonly verify: (request: WebhookRequest) => unknown
  /** Makes an event of the body, which is JSON. Throws or rejects when it cannot. */
  readonly transform: (payload: Payload) => WebhookEvent | Promise<WebhookEvent>
}

export interface IronflowWebhook {
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
  for (const field of ["verify", "transform"] as const) {
    if (typeof config[field] !== "function") {
      throw new ValidationError(
        `Webhook "${id}": \`${field}\` must be a function, got ${typeof config[field]}`
      )
    }
  }
  checkKeys(
    config,
    { id: true, verify: true, transform: true } satisfies Keys<WebhookConfig>,
    `Webhook "${id}"`
  )
  return { config }
}
