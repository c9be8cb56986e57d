/**
 * Signatures of requests between an engine and a push handler: HMAC-SHA256 over the bytes of the body, as
 * `X-Ironflow-Signature: sha256=<hex>`.
 */

/** Loaded by whoever signs or verifies: the main entry has what verifies hooks, and most programs never do. */
const crypto = () => process.getBuiltinModule("node:crypto")

export const SIGNATURE_HEADER = "x-ironflow-signature"

const digest = (body: Uint8Array | string, key: string): Buffer =>
  crypto().createHmac("sha256", key).update(body).digest()

/** The header's value for a body. */
export const sign = (body: Uint8Array | string, key: string): string =>
  `sha256=${digest(body, key).toString("hex")}`

/** Whether the header's value is the signature of exactly these bytes by one of the keys, in constant time. */
export const isSigned = (body: Uint8Array, header: string, keys: ReadonlyArray<string>): boolean => {
  const hex = /^sha256=([0-9a-fA-F]{64})$/.exec(header)?.[1]
  if (hex === undefined) return false
  const given = Buffer.from(hex, "hex")
  let matches = false
  // every key is tried: the time tells nothing about which one it was
  for (const key of keys) matches = crypto().timingSafeEqual(digest(body, key), given) || matches
  return matches
}
