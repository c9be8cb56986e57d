/** Hooks in Effect: which ones an engine has, when it says that a function is failing, and what they are called with. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { type Duration, positiveDuration } from "../../Duration.ts"
import { type SignatureError, ValidationError } from "../../Errors.ts"
import type { HookCall, HookOptions } from "../../Hook.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { type HookRequest, verifyHookAt, type VerifyHookOptions } from "../../Serve/HookSignature.ts"
import { show } from "../../Show.ts"

/** The hooks of an engine, none by default. */
export const EngineHooks = Context.Reference<ReadonlyArray<HookOptions>>("@ironflow/node/EngineHooks", {
  defaultValue: () => []
})

/** When a function is failing: so many of its runs have ended in the last minutes, and such a share of them has failed. */
export interface FailingOptions {
  /** The last whole minutes that count, `"5m"` by default; an hour at most. */
  readonly window?: Duration
  /** Runs that have to have ended in them, 5 by default. */
  readonly runs?: number
  /** The share that has to have failed, 0.5 by default; above 0, 1 at most. */
  readonly rate?: number
}

/** {@link FailingOptions} of an engine. */
export const Failing = Context.Reference<FailingOptions>("@ironflow/node/Failing", {
  defaultValue: () => ({})
})

/** When a function is failing. */
export interface FailingSettings {
  /** How far back runs are counted, in minutes. */
  readonly minutes: number
  /** How many runs must have ended in that time. */
  readonly runs: number
  /** The share of them, from 0 to 1, that must have failed. */
  readonly rate: number
}

/** The options that are known. */
export const failingKeys = { window: true, runs: true, rate: true } satisfies Keys<FailingOptions>

const LONGEST = 60

/** The settings with their defaults. Throws `ValidationError`. */
export const resolveFailing = (given: FailingOptions): FailingSettings => {
  checkKeys(given, failingKeys, "`failing`")
  const { rate = 0.5, runs = 5, window = "5m" } = given
  const minutes = Math.ceil(positiveDuration(window, "`failing.window`") / 60_000)
  if (minutes > LONGEST)
    throw new ValidationError(`\`failing.window\` must be an hour at most, got ${show(window)}`)
  if (!Number.isSafeInteger(runs) || runs < 1) {
    throw new ValidationError(`\`failing.runs\` must be a whole number from 1 up, got ${show(runs)}`)
  }
  if (typeof rate !== "number" || !(rate > 0 && rate <= 1)) {
    throw new ValidationError(`\`failing.rate\` must be a number above 0, and 1 at most, got ${show(rate)}`)
  }
  return { minutes, runs, rate }
}

/**
 * What a hook was called with, once it is certain that it comes from an engine with this secret, and from now: `verifyHook` of the
 * Promise API, as an effect. Fails with `SignatureError`, and with `ValidationError` when the body is no call of a hook.
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
      // it throws nothing else
      catch: (error) => error as SignatureError | ValidationError
    })
  )
