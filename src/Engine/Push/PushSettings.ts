/** The settings for calls of push endpoints: their checks and defaults. */
import * as Context from "effect/Context"
import * as Redacted from "effect/Redacted"
import { readEnvironmentVariable, type Variables } from "../../EnvironmentVariables.ts"
import { ValidationError } from "../../Errors.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { show } from "../../Show.ts"

/** How the engine calls push endpoints. */
export interface PushSettings {
  /** The key that signs requests; `undefined` leaves requests unsigned. `IRONFLOW_SIGNING_KEY` by default. */
  readonly signingKey: Redacted.Redacted<string> | undefined
  /** Whether endpoints and hooks may have addresses that are not public: loopback, private networks, link-local. */
  readonly allowPrivateNetworks: boolean
  /** How long an endpoint may take to answer the request for a turn, in milliseconds. */
  readonly timeoutMs: number
  /** Maximum number of bytes that the answer of an endpoint may have. */
  readonly maxResponseBytes: number
  /** Maximum number of turns that one engine has active at one endpoint at a time. */
  readonly maxConcurrent: number
}

const settingKeys = {
  signingKey: true,
  allowPrivateNetworks: true,
  timeoutMs: true,
  maxResponseBytes: true,
  maxConcurrent: true
} satisfies Keys<PushSettings>

export const PushSettings = Context.Reference<PushSettings>("@ironflow/node/PushSettings", {
  defaultValue: () => makeSettings()
})

/** The settings, with defaults. */
export const makeSettings = (
  given: Partial<PushSettings> = {},
  variables: Variables = readEnvironmentVariable
): PushSettings => {
  checkKeys(given, settingKeys, "push")
  const key = variables("IRONFLOW_SIGNING_KEY")
  const settings = {
    signingKey: key === undefined ? undefined : Redacted.make(key),
    allowPrivateNetworks: false,
    timeoutMs: 60_000,
    maxResponseBytes: 16 * 1024 * 1024,
    maxConcurrent: 50,
    ...given
  }
  for (const name of ["timeoutMs", "maxResponseBytes", "maxConcurrent"] as const) {
    if (!Number.isSafeInteger(settings[name]) || settings[name] <= 0) {
      throw new ValidationError(
        `push: \`${name}\` must be an integer, at least 1, got ${show(settings[name])}`
      )
    }
  }
  return settings
}
