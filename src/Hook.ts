/**
 * Hooks: requests by which the engine tells another service that a run has failed, was paused or is stuck, or that
 * many runs of a function fail.
 */
import * as Redacted from "effect/Redacted"
import { resolveRetry, type RetryConfig, retryKeys, type RetryPolicy } from "./Backoff.ts"
import { checkEndpointUrl } from "./EndpointUrl.ts"
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"
import { show } from "./Show.ts"

/** The events for which hooks can be called. */
export const hookEvents = ["run.failed", "run.paused", "run.stuck", "function.failing"] as const
/** An event for which a hook can be called. */
export type HookEvent = (typeof hookEvents)[number]

/** A hook: which events the engine sends, and where it sends them. */
export interface HookOptions {
  /** The events for which the hook is called; all by default. */
  readonly on?: ReadonlyArray<HookEvent>
  /**
   * The functions for which the hook is called, by their ids, with `*` for any characters; all by default.
   */
  readonly functionId?: string
  /** The environment for which the hook is called; all by default. */
  readonly environment?: string
  /**
   * The URL that receives the `POST` requests. Addresses that are not public are refused, unless they are allowed
   * for push endpoints.
   */
  readonly url: string
  /** The secret that signs the requests, at least 16 characters long. `verifyHook` takes the same secret. */
  readonly secret: string | Redacted.Redacted<string>
  /**
   * How calls that were not answered with 2xx are tried again. By default 12 attempts, with delays from 5
   * seconds to an hour: about two hours in total.
   */
  readonly retry?: RetryConfig
}

/** A hook that was checked. */
export interface Hook {
  /** The key under which the calls of the hook are stored. */
  readonly key: string
  /** The host of the hook's URL, for messages: the rest of the URL may be secret. */
  readonly host: string
  readonly on: ReadonlyArray<HookEvent>
  readonly functionId: string
  readonly environment: string | undefined
  readonly url: string
  readonly secret: Redacted.Redacted<string>
  readonly retry: RetryPolicy
}

/** The JSON body of a hook call. */
export interface HookCall {
  /** Id of the call; the same in each retry. */
  readonly id: string
  /** What has happened. */
  readonly type: HookEvent
  /** When it happened, as an ISO string. */
  readonly at: string
  /** The environment in which it happened. */
  readonly environment: string
  /** The function, run and error, where they apply. */
  readonly data: {
    readonly functionId: string
    /** The run. Absent when the call is about a function. */
    readonly runId?: string
    /** The error of a failed run. The run itself has the stack and the input. */
    readonly error?: { readonly name: string; readonly message: string; readonly code?: string }
    /** Why a run is paused. */
    readonly reason?: { readonly code: string; readonly message: string }
    /** For a failing function: how many of its runs ended within the last `windowMs`. */
    readonly ended?: number
    /** For a failing function: how many of its runs failed within the last `windowMs`. */
    readonly failed?: number
    /** For a failing function: the time in which its runs were counted, in milliseconds. */
    readonly windowMs?: number
  }
}

/** The option keys of a hook. */
export const hookKeys = {
  on: true,
  functionId: true,
  environment: true,
  url: true,
  secret: true,
  retry: retryKeys
} satisfies Keys<HookOptions>

const MIN_SECRET_LENGTH = 16

const HOOK_RETRY: RetryPolicy = {
  maxAttempts: 12,
  initialDelayMs: 5000,
  backoffFactor: 2,
  maxDelayMs: 3_600_000,
  jitter: 0.2
}

/** Checks the hooks. Throws `ValidationError`, whose message contains no secrets. */
export const checkHooks = (given: unknown): ReadonlyArray<Hook> => {
  if (!Array.isArray(given)) throw new ValidationError(`\`hooks\` must be an array, got ${show(given)}`)
  const hooks = given.map((hook: unknown, i) => checkHook(hook, `\`hooks[${i}]\``))
  for (const [i, { key }] of hooks.entries()) {
    const first = hooks.findIndex((other) => other.key === key)
    if (first === i) continue
    throw new ValidationError(
      `\`hooks[${i}]\` has the same URL, functions and environment as \`hooks[${first}]\`: ` +
        "merge them into one hook whose `on` lists all events"
    )
  }
  return hooks
}

const checkHook = (given: unknown, what: string): Hook => {
  if (!isObject(given)) throw new ValidationError(`${what} must be an object such as { url, secret }`)
  checkKeys(given, hookKeys, what)
  const { environment, functionId = "*", on = hookEvents, retry, secret } = given
  if (!Array.isArray(on) || on.length === 0 || !on.every((one) => hookEvents.includes(one))) {
    throw new ValidationError(
      `${what}: \`on\` must be an array of at least one of ${hookEvents.map((event) => `"${event}"`).join(", ")}, got ${show(on)}`
    )
  }
  const secretText: unknown = Redacted.isRedacted(secret) ? Redacted.value(secret) : secret
  if (typeof secretText !== "string" || secretText.length < MIN_SECRET_LENGTH) {
    throw new ValidationError(
      `${what}: \`secret\`, which signs the requests, must be a string of at least ${MIN_SECRET_LENGTH} characters`
    )
  }
  const url = checkEndpointUrl(given.url, `\`url\` of ${what}`)
  const glob = checkName(`\`functionId\` of ${what}`, functionId)
  const environmentName =
    environment === undefined ? undefined : checkName(`\`environment\` of ${what}`, environment)
  return {
    // loaded here, since only engines with hooks need `node:crypto`, and the main entry loads this module
    key: process
      .getBuiltinModule("node:crypto")
      .createHash("sha256")
      .update(JSON.stringify([url, glob, environmentName]))
      .digest("hex")
      .slice(0, 16),
    host: new URL(url).host,
    on,
    functionId: glob,
    environment: environmentName,
    url,
    secret: Redacted.make(secretText),
    // `resolveRetry` checks the value
    retry: resolveRetry(retry as RetryConfig | undefined, `retry of ${what}`, HOOK_RETRY)
  }
}
