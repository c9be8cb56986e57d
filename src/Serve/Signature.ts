/**
 * Signatures in the header `X-Ironflow-Signature: sha256=<hex>`, by HMAC-SHA256. Requests of an engine to a push
 * handler are signed over the bytes of their body; for hook calls, see `HookSignature.ts`.
 */

/** The module is loaded when it is first needed: the main entry exports `verifyHook`, which most programs never call. */
const crypto = () => process.getBuiltinModule("node:crypto")

export const SIGNATURE_HEADER = "x-ironflow-signature"

const digest = (body: Uint8Array | string, key: string): Buffer =>
  crypto().createHmac("sha256", key).update(body).digest()

/** The value of the signature header for a body. */
export const sign = (body: Uint8Array | string, key: string): string =>
  `sha256=${digest(body, key).toString("hex")}`

/**
 * Whether the header is a signature of these bytes with one of the keys. Takes the same time for a wrong signature as
 * for a valid one.
 */
export const isSigned = (body: Uint8Array, header: string, keys: ReadonlyArray<string>): boolean => {
  const hex = /^sha256=([0-9a-fA-F]{64})$/.exec(header)?.[1]
  if (hex === undefined) return false
  const signature = Buffer.from(hex, "hex")
  let matches = false
  // all keys are tried, so that the time does not tell which key matched
  for (const key of keys) matches = crypto().timingSafeEqual(digest(body, key), signature) || matches
  return matches
}
