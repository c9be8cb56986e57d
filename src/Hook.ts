/** Hooks: requests by which an engine tells another service that a run or a function is in trouble. */
import * as Redacted from "effect/Redacted"
import { resolveRetry, type RetryConfig, retryKeys, type RetryPolicy } from "./Backoff.ts"
import { checkEndpointUrl } from "./EndpointUrl.ts"
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"
import { show } from "./Show.ts"

/** What hooks can be called for. */
export const hookEvents = ["run.failed", "run.paused", "run.stuck", "function.failing"] as const
/** What a hook can be told of. */
export type HookEvent = (typeof hookEvents)[number]

/** Where the engine sends what happens. */
export interface HookOptions {
  /** What it is called for; everything by default. */
  readonly on?: ReadonlyArray<HookEvent>
  /** The ids of the functions it is about, in which `*` stands for any characters; all by default. */
  readonly functionId?: string
  /** The environment it is about; all by default. */
  readonly environment?: string
  /** Whom to send `POST` requests to. Not to addresses that are not public, unless push endpoints may have them. */
  readonly url: string
  /** What requests are signed with, 16 characters at least: `verifyHook` takes the same. */
  readonly secret: string | Redacted.Redacted<string>
  /**
   * When a call is sent again that was not answered with 2xx: 12 attempts by default, from 5 seconds to an hour apart, which is four
   * hours in all.
   */
  readonly retry?: RetryConfig
}

/** A hook that was checked. */
export interface Hook {
  /** Stands for it where its calls are stored. */
  readonly key: string
  /** Of its URL: the rest of that may be a secret. */
  readonly host: string
  readonly on: ReadonlyArray<HookEvent>
  readonly functionId: string
  readonly environment: string | undefined
  readonly url: string
  readonly secret: Redacted.Redacted<string>
  readonly retry: RetryPolicy
}

/** What a hook is called with, as JSON. */
export interface HookCall {
  /** The same when the call comes again. */
  readonly id: string
  /** What has happened. */
  readonly type: HookEvent
  /** When it happened, as an ISO string. */
  readonly at: string
  /** The environment in which it has. */
  readonly environment: string
  /** The function, the run and the error that it is about, as far as there are any. */
  readonly data: {
    readonly functionId: string
    /** The run, unless the call is about a function. */
    readonly runId?: string
    /** Of a run that has failed. Stacks and what the run was given are with the run. */
    readonly error?: { readonly name: string; readonly message: string; readonly code?: string }
    /** Why a run is paused. */
    readonly reason?: { readonly code: string; readonly message: string }
    /** Of a function that fails: how many of its runs have ended in the window, and how many of those have failed. */
    readonly ended?: number
    readonly failed?: number
    readonly windowMs?: number
  }
}

/** The keys of a hook. */
export const hookKeys = {
  on: true,
  functionId: true,
  environment: true,
  url: true,
  secret: true,
  retry: retryKeys
} satisfies Keys<HookOptions>

const LEAST_SECRET = 16

const HOOK_RETRY: RetryPolicy = {
  maxAttempts: 12,
  initialDelayMs: 5000,
  backoffFactor: 2,
  maxDelayMs: 3_600_000,
  jitter: 0.2
}

/** The hooks, checked. Throws `ValidationError`, in which no secret is. */
export const checkHooks = (given: unknown): ReadonlyArray<Hook> => {
  if (!Array.isArray(given)) throw new ValidationError(`\`hooks\` must be an array, got ${show(given)}`)
  const hooks = given.map((hook: unknown, i) => checkHook(hook, `\`hooks[${i}]\``))
  const twice = hooks.findIndex(({ key }, i) => hooks.findIndex((other) => other.key === key) < i)
  if (twice >= 0) {
    throw new ValidationError(
      `\`hooks[${twice}]\` has the URL, the functions and the environment of another one: name all that it is called for in \`on\` of one of them`
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
      `${what}: \`on\` must be an array of ${hookEvents.map((event) => `"${event}"`).join(", ")}, got ${show(on)}`
    )
  }
  const secretText: unknown = Redacted.isRedacted(secret) ? Redacted.value(secret) : secret
  if (typeof secretText !== "string" || secretText.length < LEAST_SECRET) {
    throw new ValidationError(
      `${what}: \`secret\` must be a string of at least ${LEAST_SECRET} characters: requests are signed with it`
    )
  }
  const url = checkEndpointUrl(given.url)
  const glob = checkName(`\`functionId\` of ${what}`, functionId)
  const of = environment === undefined ? undefined : checkName(`\`environment\` of ${what}`, environment)
  return {
    // loaded by engines with hooks alone: the main entry loads this module
    key: process
      .getBuiltinModule("node:crypto")
      .createHash("sha256")
      .update(JSON.stringify([url, glob, of]))
      .digest("hex")
      .slice(0, 16),
    host: new URL(url).host,
    on,
    functionId: glob,
    environment: of,
    url,
    secret: Redacted.make(secretText),
    // it was looked at by nobody yet
    retry: resolveRetry(retry as RetryConfig | undefined, `retry of ${what}`, HOOK_RETRY)
  }
}
