/**
 * Signatures of requests between an engine and a push handler: HMAC-SHA256 over the bytes of the body, as
 * `X-Ironflow-Signature: sha256=<hex>`.
 */

/** Loaded only to sign or verify: the main entry exports `verifyHook`, which most programs never call. */
const crypto = () => process.getBuiltinModule("node:crypto")

export const SIGNATURE_HEADER = "x-ironflow-signature"

const digest = (body: Uint8Array | string, key: string): Buffer =>
  crypto().createHmac("sha256", key).update(body).digest()

/** The value of the signature header for a body. */
export const sign = (body: Uint8Array | string, key: string): string =>
  `sha256=${digest(body, key).toString("hex")}`

/**
 * Whether the header is a signature of these bytes with one of the keys. Takes the same time whether or not
 * it is.
 */
export const isSigned = (body: Uint8Array, header: string, keys: ReadonlyArray<string>): boolean => {
  const hex = /^sha256=([0-9a-fA-F]{64})$/.exec(header)?.[1]
  if (hex === undefined) return false
  const given = Buffer.from(hex, "hex")
  let matches = false
  // all keys are tried, so that the time does not tell which one matched
  for (const key of keys) matches = crypto().timingSafeEqual(digest(body, key), given) || matches
  return matches
}
