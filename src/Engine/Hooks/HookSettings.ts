/** Settings of hooks in Effect: the hooks of an engine, when a function counts as failing, and how to verify a call. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { type Duration, positiveDuration } from "../../Duration.ts"
import { type SignatureError, ValidationError } from "../../Errors.ts"
import type { HookCall, HookOptions } from "../../Hook.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { type HookRequest, verifyHookAt, type VerifyHookOptions } from "../../Serve/HookSignature.ts"
import { show } from "../../Show.ts"

/** The hooks of an engine; none by default. */
export const EngineHooks = Context.Reference<ReadonlyArray<HookOptions>>("@ironflow/node/EngineHooks", {
  defaultValue: () => []
})

/**
 * When a function counts as failing: enough of its runs have ended in the last minutes, and a large enough share of these runs
 * has failed.
 */
export interface FailingOptions {
  /** How many of the last whole minutes count; `"5m"` by default, at most an hour. */
  readonly window?: Duration
  /** How many runs must have ended in these minutes; 5 by default. */
  readonly runs?: number
  /** Which share of those runs must have failed: above 0 and at most 1; 0.5 by default. */
  readonly rate?: number
}

/** {@link FailingOptions} of an engine. */
export const Failing = Context.Reference<FailingOptions>("@ironflow/node/Failing", {
  defaultValue: () => ({})
})

/** When a function counts as failing. */
export interface FailingSettings {
  /** How far back runs are counted, in minutes. */
  readonly minutes: number
  /** How many runs must have ended in these minutes. */
  readonly runs: number
  /** Which share of these runs must have failed, from 0 to 1. */
  readonly rate: number
}

/** The names of the options. */
export const failingKeys = { window: true, runs: true, rate: true } satisfies Keys<FailingOptions>

/** The longest window, in minutes. */
const MAX_MINUTES = 60

/** Checks the options and fills in the defaults. Throws `ValidationError` for an invalid option. */
export const resolveFailing = (given: FailingOptions): FailingSettings => {
  checkKeys(given, failingKeys, "`failing`")
  const { rate = 0.5, runs = 5, window = "5m" } = given
  const minutes = Math.ceil(positiveDuration(window, "`failing.window`") / 60_000)
  if (minutes > MAX_MINUTES)
    throw new ValidationError(`\`failing.window\` must be an hour at most, got ${show(window)}`)
  if (!Number.isSafeInteger(runs) || runs < 1) {
    throw new ValidationError(`\`failing.runs\` must be an integer, at least 1, got ${show(runs)}`)
  }
  if (typeof rate !== "number" || !(rate > 0 && rate <= 1)) {
    throw new ValidationError(`\`failing.rate\` must be a number above 0, and 1 at most, got ${show(rate)}`)
  }
  return { minutes, runs, rate }
}

/**
 * Returns the call of a hook, after checking that the call comes from an engine with this secret and is recent. This is
 * `verifyHook` of the Promise API, as an Effect. Fails with `SignatureError`, and with `ValidationError` when the body is not what
 * a hook sends.
 *
 * ```ts
 * const call = Hooks.verify(hookRequest, "the secret of the hook", { tolerance: "1m" })
 * ```
 */
export const verify = (
  request: HookRequest,
  secret: string | ReadonlyArray<string>,
  options?: VerifyHookOptions
): Effect.Effect<HookCall, SignatureError | ValidationError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.try({
      try: () => verifyHookAt(now, request, secret, options),
      // `verifyHookAt` throws only these errors
      catch: (error) => error as SignatureError | ValidationError
    })
  )
