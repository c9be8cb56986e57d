/**
 * Signatures of hook calls: HMAC-SHA256 over the time, a dot and the bytes of the body. The time, in seconds
 * since 1970, is in `X-Ironflow-Timestamp`. The signature is in `X-Ironflow-Signature`, as for push handlers.
 */
import { SignatureError, ValidationError } from "../Errors.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { type HookCall, hookEvents } from "../Hook.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { isSigned, sign, SIGNATURE_HEADER } from "./Signature.ts"

const TIMESTAMP_HEADER = "x-ironflow-timestamp"

/** The headers of a hook call with this body. */
export const hookHeaders = (
  body: string,
  secret: string,
  nowMs: number
): { readonly [name: string]: string } => {
  const seconds = Math.floor(nowMs / 1000)
  return {
    [TIMESTAMP_HEADER]: String(seconds),
    [SIGNATURE_HEADER]: sign(`${seconds}.${body}`, secret)
  }
}

/** A hook call, as it was received. */
export interface HookRequest {
  /** The headers, by lower-case name, or as a `Headers` object. */
  readonly headers: Headers | { readonly [name: string]: string | ReadonlyArray<string> | undefined }
  /** The body as it was received, not parsed. */
  readonly body: string | Uint8Array
}

/** Options of `verifyHook`. */
export interface VerifyHookOptions {
  /** How far the time of the request may be from now, before or after; `"5m"` by default. */
  readonly tolerance?: Duration
}

/**
 * Verifies a hook call and returns its content. The call must be recent, and signed with the secret, or, while a secret
 * is being replaced, with one of several secrets. The same call may arrive more than once, with the same `id`.
 *
 * ```ts
 * app.post("/ironflow-alarm", express.raw({ type: "*" + "/*" }), (request, response) => {
 *   const { type, data } = verifyHook(request, process.env.HOOK_SECRET!)
 *   response.sendStatus(204)
 * })
 * ```
 *
 * Throws `SignatureError` with the code `SIGNATURE_MISSING` or `SIGNATURE_INVALID`, and `ValidationError`
 * when an argument is invalid or the body is not a hook call.
 */
export const verifyHook = (
  request: HookRequest,
  secret: string | ReadonlyArray<string>,
  options: VerifyHookOptions = {}
): HookCall =>
  // users call this outside of Effect, where there is no Clock service
  verifyHookAt(Date.now(), request, secret, options)

/** Does what {@link verifyHook} does. `now` is the current time in epoch milliseconds. */
export const verifyHookAt = (
  now: number,
  { body, headers }: HookRequest,
  secret: string | ReadonlyArray<string>,
  { tolerance = "5m" }: VerifyHookOptions = {}
): HookCall => {
  const secrets = typeof secret === "string" ? [secret] : secret
  if (
    !Array.isArray(secrets) ||
    secrets.length === 0 ||
    secrets.some((one) => typeof one !== "string" || one === "")
  ) {
    throw new ValidationError(
      "verifyHook(): `secret` must be the secret of the hook, or an array of secrets, none of them missing or empty: is the environment variable set?"
    )
  }
  if (typeof body !== "string" && !(body instanceof Uint8Array)) {
    throw new ValidationError(
      "verifyHook() needs the raw body, a string or bytes: a parsed body cannot be verified"
    )
  }
  const toleranceMs = positiveDuration(tolerance, "`tolerance` of verifyHook()")
  const header = (name: string): string | undefined => {
    const value: unknown = headers instanceof Headers ? headers.get(name) : headers[name]
    return typeof value === "string" ? value : undefined
  }
  const time = header(TIMESTAMP_HEADER)
  const signature = header(SIGNATURE_HEADER)
  if (time === undefined || signature === undefined) {
    throw new SignatureError(
      `The request has no ${time === undefined ? TIMESTAMP_HEADER : SIGNATURE_HEADER} header: it does not come from the hook of an engine`,
      { code: "SIGNATURE_MISSING" }
    )
  }
  const bytes = Buffer.concat([Buffer.from(`${time}.`), Buffer.from(body)])
  if (!isSigned(bytes, signature, secrets)) {
    throw new SignatureError(
      "The signature does not match: the hook has another secret, or the body was changed on its way"
    )
  }
  const differenceMs = Math.abs(now - Number(time) * 1000)
  if (!(differenceMs <= toleranceMs)) {
    throw new SignatureError(
      `The request was signed ${Math.round(differenceMs / 1000)} s away from now, and ${toleranceMs / 1000} s are allowed: ` +
        "an old request was sent again, or a clock is wrong"
    )
  }
  const call: unknown = safeJsonParse(Buffer.from(body).toString("utf8"))
  if (!isHookCall(call)) {
    throw new ValidationError(
      "The signature is valid, but the body is not one that an engine sends to a hook: JSON with an `id`, `data` and a `type` " +
        "that this version of @ironflow/node knows. If the engine is newer, upgrade @ironflow/node"
    )
  }
  return call
}

const isHookCall = (call: unknown): call is HookCall =>
  isObject(call) &&
  typeof call.id === "string" &&
  hookEvents.some((event) => event === call.type) &&
  isObject(call.data)
