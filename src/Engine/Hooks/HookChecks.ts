/** Checks at the start of the engine whether hooks can be called at all. Later failures are in the log and in the metrics. */
import * as Dns from "node:dns/promises"
import { isIP } from "node:net"
import * as Effect from "effect/Effect"
import { ValidationError } from "../../Errors.ts"
import type { Hook } from "../../Hook.ts"
import { whyNotAllowed } from "../Push/HttpPost.ts"
import { isPublicAddress } from "../Push/PublicAddress.ts"

/** How long the look-up of a host name may take, in milliseconds. */
const LOOKUP_MS = 10_000

const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, "")

/**
 * The address in the URL; for `localhost`, `127.0.0.1`. `undefined` when the URL has another host name, which must be looked up.
 */
const addressIn = (url: URL): string | undefined => {
  const host = hostOf(url)
  return isIP(host) !== 0 ? host : /^(.+\.)?localhost\.?$/.test(host) ? "127.0.0.1" : undefined
}

/** Throws `ValidationError` for a hook at an address that the engine never calls. */
export const refuseHooks = (hooks: ReadonlyArray<Hook>, allowPrivateNetworks: boolean): void => {
  if (allowPrivateNetworks) return
  for (const [i, hook] of hooks.entries()) {
    const url = new URL(hook.url)
    const address = addressIn(url)
    if (address === undefined || isPublicAddress(address)) continue
    throw new ValidationError(`\`hooks[${i}]\` would never be called: ${whyNotAllowed(url.host, address)}`)
  }
}

/** Logs what is wrong with a hook, as far as the engine can see. The hook is called all the same. */
export const warnAboutHook = (hook: Hook, allowPrivateNetworks: boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const url = new URL(hook.url)
    const addressInUrl = addressIn(url)
    const addresses =
      addressInUrl !== undefined
        ? [addressInUrl]
        : yield* Effect.tryPromise(() => Dns.lookup(hostOf(url), { all: true })).pipe(
            Effect.timeout(LOOKUP_MS),
            Effect.map((found) => found.map(({ address }) => address)),
            Effect.catch(() => Effect.succeed([]))
          )
    const privateAddress = addresses.find((address) => !isPublicAddress(address))
    if (addresses.length === 0) {
      return yield* Effect.logWarning(
        `The hook at ${hook.host} cannot be called now: its name does not resolve. Each of its calls is stored, and attempted up to ${hook.retry.maxAttempts} times`
      )
    }
    if (privateAddress !== undefined && !allowPrivateNetworks) {
      return yield* Effect.logWarning(
        `The hook at ${hook.host} cannot be called: ${whyNotAllowed(url.host, privateAddress)}`
      )
    }
    if (url.protocol === "http:" && privateAddress === undefined) {
      yield* Effect.logWarning(
        `The hook at ${hook.host} is called over plain http: anybody on the network path can read which runs fail and why. Use https`
      )
    }
  })
