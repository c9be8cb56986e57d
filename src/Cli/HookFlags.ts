/** `--hook`: the URLs that an engine calls about runs and functions in trouble. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Flag from "effect/cli/Flag"
import { readEnvironmentVariable } from "../Environment.ts"
import { ValidationError } from "../Errors.ts"
import { checkHooks, hookEvents, type HookEvent, type HookOptions } from "../Hook.ts"
import { textFlag } from "./TextFlag.ts"

export const hookFlags = {
  hook: textFlag("hook").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription(
      "A URL to tell of runs and functions in trouble, by signed requests; may be repeated. IRONFLOW_HOOK_URL by default"
    ),
    Flag.atLeast(0)
  ),
  hookSecret: Flag.Redacted("hook-secret").pipe(
    Flag.withMetavar("SECRET"),
    Flag.withDescription(
      "What these requests are signed with, 16 characters at least. Others on the machine see it here: IRONFLOW_HOOK_SECRET is better"
    ),
    Flag.optional
  ),
  hookOn: Flag.Literals("hook-on", hookEvents).pipe(
    Flag.withDescription("What to tell of; may be repeated. All of it by default"),
    Flag.atLeast(0)
  ),
  hookFunction: textFlag("hook-function").pipe(
    Flag.withMetavar("PATTERN"),
    Flag.withDescription("The functions to tell of, in which * stands for any characters; all by default"),
    Flag.optional
  )
}

interface HookInput {
  readonly hook: ReadonlyArray<string>
  readonly hookSecret: Option.Option<Redacted.Redacted<string>>
  readonly hookOn: ReadonlyArray<HookEvent>
  readonly hookFunction: Option.Option<string>
}

/** The hooks of the flags and the environment. Fails with `ValidationError`, whose message contains no secrets. */
export const hooksOf = ({
  hook,
  hookFunction,
  hookOn,
  hookSecret
}: HookInput): Effect.Effect<ReadonlyArray<HookOptions>, ValidationError> =>
  Effect.suspend(() => {
    const known = readEnvironmentVariable("IRONFLOW_HOOK_URL")
    const urls = hook.length > 0 ? hook : known === undefined ? [] : [known]
    if (urls.length === 0) {
      return Option.isSome(hookSecret) || hookOn.length > 0 || Option.isSome(hookFunction)
        ? Effect.fail(new ValidationError("--hook-secret, --hook-on and --hook-function go with --hook URL"))
        : Effect.succeed([])
    }
    const given = readEnvironmentVariable("IRONFLOW_HOOK_SECRET")
    const secret = Option.getOrElse(hookSecret, () =>
      given === undefined ? undefined : Redacted.make(given)
    )
    if (secret === undefined) {
      return Effect.fail(
        new ValidationError(
          "--hook needs IRONFLOW_HOOK_SECRET or --hook-secret: its requests are signed with it"
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
      // it throws no other errors
      catch: (error) => error as ValidationError
    })
  })
