/** Parses the body of a webhook request: JSON, or the fields of a form. */
import { safeJsonParse } from "../Json.ts"
import { checkShape } from "../JsonLimits.ts"
import type { WebhookRequest } from "../Webhook.ts"

/**
 * Returns the parsed body. When the body is neither JSON nor a form, throws an error that says what the body
 * is.
 */
export const readPayload = ({ bytes, headers }: WebhookRequest, what: string): unknown => {
  const mediaType = (headers["content-type"] ?? "").replace(/;.*$/s, "").trim().toLowerCase()
  if (mediaType.startsWith("multipart/")) {
    throw new Error(`${what}: the body is ${mediaType}, which only the webhook's \`parse\` can read`)
  }
  const text = decode(withoutByteOrderMark(bytes), what)
  // `curl`, for example, calls every body a form: so a body that looks like JSON is read as JSON
  if (mediaType === "application/x-www-form-urlencoded" && !/^\s*[[{]/.test(text)) return readForm(text, what)
  const payload = safeJsonParse<unknown>(checkShape(`the body of ${what}`, text), notJson)
  if (payload === notJson) {
    throw new Error(`${what}: the body is ${bytes.length === 0 ? "empty" : "not JSON"}`)
  }
  return payload
}

const notJson = Symbol("not JSON")

/** Removes a byte order mark at the start. Some senders add one, which is invalid in JSON and in forms. */
const withoutByteOrderMark = (bytes: Uint8Array): Uint8Array =>
  bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes

// by their standards JSON and forms are UTF-8, whatever `charset` says
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const decode = (bytes: Uint8Array, what: string): string => {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new Error(`${what}: the body is not UTF-8. The webhook's \`parse\` can read its bytes`)
  }
}

const readForm = (text: string, what: string): unknown => {
  const fields = new Map<string, string | Array<string>>()
  for (const pair of text.split("&")) {
    if (pair === "") continue
    const end = pair.indexOf("=")
    const name = unescape(end === -1 ? pair : pair.slice(0, end), what)
    const value = end === -1 ? "" : unescape(pair.slice(end + 1), what)
    const previous = fields.get(name)
    if (previous === undefined) fields.set(name, value)
    else if (typeof previous === "string") fields.set(name, [previous, value])
    else previous.push(value)
  }
  return Object.fromEntries(fields)
}

/** Decodes percent-encoding as forms do: a `%` that does not begin an encoded byte stands for itself. */
const unescape = (text: string, what: string): string => {
  const spaced = text.replaceAll("+", " ")
  if (!spaced.includes("%")) return spaced
  const bytes = Buffer.from(spaced).toString("latin1")
  return decode(
    Buffer.from(
      bytes.replace(/%([\da-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
      "latin1"
    ),
    what
  )
}
