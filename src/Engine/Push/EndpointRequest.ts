/** One request to a push endpoint, signed if there is a signing key. */
import type * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/CallAddress.ts"
import { sign, SIGNATURE_HEADER } from "../../Serve/Signature.ts"
import type { InputBudget } from "../InputBudget.ts"
import { post, type PostAnswer, type PostError } from "./HttpPost.ts"
import type { PushSettings } from "./PushSettings.ts"

/** The endpoint of a request, and its settings. */
export interface EndpointTarget {
  readonly url: string
  readonly environment: string
  readonly settings: PushSettings
  /** The limit for the memory of answers, which all endpoints share. */
  readonly inputBudget: InputBudget
}

export interface EndpointRequest {
  readonly body: string
  readonly timeoutMs: number
  /** Completes when the request is to be aborted. */
  readonly hangUp?: Effect.Effect<void>
  /** Maximum number of bytes that the answer may have. */
  readonly maxBytes?: number
}

/** Sends the request, and passes the answer to `use`. */
export const postTo = <A, E>(
  { environment, inputBudget, settings, url }: EndpointTarget,
  { body, hangUp, maxBytes = Number.POSITIVE_INFINITY, timeoutMs }: EndpointRequest,
  use: (answer: PostAnswer) => Effect.Effect<A, E>
): Effect.Effect<A, E | PostError> => {
  const { allowPrivateNetworks, maxResponseBytes, signingKey } = settings
  const request = {
    url,
    body,
    timeoutMs,
    maxResponseBytes: Math.min(maxResponseBytes, maxBytes),
    allowPrivateNetworks,
    inputBudget,
    ...(hangUp === undefined ? {} : { hangUp }),
    headers: {
      [ENVIRONMENT_HEADER]: environment,
      ...(signingKey === undefined ? {} : { [SIGNATURE_HEADER]: sign(body, Redacted.value(signingKey)) })
    }
  }
  return post(request, use)
}
