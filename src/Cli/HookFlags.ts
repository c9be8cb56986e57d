/** `--hook`: the URLs that an engine calls about runs and functions in trouble. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Flag from "effect/cli/Flag"
import { readEnvironmentVariable } from "../EnvironmentVariables.ts"
import { ValidationError } from "../Errors.ts"
import { checkHooks, hookEvents, type HookEvent, type HookOptions } from "../Hook.ts"
import { textFlag } from "./TextFlag.ts"

export const hookFlags = {
  hook: textFlag("hook").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription(
      "A URL that the engine calls about runs and functions in trouble, with signed requests; may be repeated. IRONFLOW_HOOK_URL by default"
    ),
    Flag.atLeast(0)
  ),
  hookSecret: Flag.Redacted("hook-secret").pipe(
    Flag.withMetavar("SECRET"),
    Flag.withDescription(
      "The secret that signs these requests, at least 16 characters. Other users of the machine can see command lines: prefer IRONFLOW_HOOK_SECRET"
    ),
    Flag.optional
  ),
  hookOn: Flag.Literals("hook-on", hookEvents).pipe(
    Flag.withMetavar("EVENT"),
    Flag.withDescription("The kind of trouble to call about; may be repeated. All kinds by default"),
    Flag.atLeast(0)
  ),
  hookFunction: textFlag("hook-function").pipe(
    Flag.withMetavar("PATTERN"),
    Flag.withDescription("The functions to call about; * stands for any characters. All by default"),
    Flag.optional
  )
}

interface HookFlagValues {
  readonly hook: ReadonlyArray<string>
  readonly hookSecret: Option.Option<Redacted.Redacted<string>>
  readonly hookOn: ReadonlyArray<HookEvent>
  readonly hookFunction: Option.Option<string>
}

/**
 * The hooks from the flags and the environment. Fails with `ValidationError`; its message contains no
 * secrets.
 */
export const hooksOf = ({
  hook,
  hookFunction,
  hookOn,
  hookSecret
}: HookFlagValues): Effect.Effect<ReadonlyArray<HookOptions>, ValidationError> =>
  Effect.suspend(() => {
    const urlFromEnv = readEnvironmentVariable("IRONFLOW_HOOK_URL")
    const urls = hook.length > 0 ? hook : urlFromEnv === undefined ? [] : [urlFromEnv]
    if (urls.length === 0) {
      return Option.isSome(hookSecret) || hookOn.length > 0 || Option.isSome(hookFunction)
        ? Effect.fail(
            new ValidationError(
              "--hook-secret, --hook-on and --hook-function need --hook URL or IRONFLOW_HOOK_URL"
            )
          )
        : Effect.succeed([])
    }
    const duplicate = urls.find((url, i) => urls.indexOf(url) < i)
    if (duplicate !== undefined)
      return Effect.fail(new ValidationError(`--hook has ${duplicate} twice: give it once`))
    const secretFromEnv = readEnvironmentVariable("IRONFLOW_HOOK_SECRET")
    const secret = Option.getOrElse(hookSecret, () =>
      secretFromEnv === undefined ? undefined : Redacted.make(secretFromEnv)
    )
    if (secret === undefined) {
      return Effect.fail(
        new ValidationError(
          "--hook and IRONFLOW_HOOK_URL need IRONFLOW_HOOK_SECRET or --hook-secret, which signs the requests"
        )
      )
    }
    const hooks = urls.map((url) => ({
      url,
      secret,
      ...(hookOn.length === 0 ? {} : { on: hookOn }),
      ...Option.match(hookFunction, { onNone: () => ({}), onSome: (functionId) => ({ functionId }) })
    }))
    return Effect.try({
      try: () => {
        checkHooks(hooks)
        return hooks
      },
      // `checkHooks` throws only `ValidationError`
      catch: (error) => error as ValidationError
    })
  })
