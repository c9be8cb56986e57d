/**
 * Values of keys as bytes and back. The bytes are those that legacy clients send; their type says what they were.
 */
import { isUtf8 } from "node:buffer"
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { encodeJson, safeJsonParse } from "./Json.ts"
import { hasHalfCharacter, kvValueBytes } from "./Limits.ts"
import type { Keys } from "./OptionKeys.ts"
import type { AnySchema } from "./StandardSchema.ts"

/** What `bucket` may be told of the values in it. */
export interface KVBucketOptions<S extends AnySchema | undefined = AnySchema> {
  /**
   * Types the values, and checks each one that is read or written: a Standard Schema (Zod, Valibot, ArkType) or an Effect
   * schema. Effect schemas write what they read (a `Date`); of others what goes in is what they take, and what comes out
   * what they return. What does not fit is a `KeySchemaError`.
   */
  readonly schema: S
}

export const bucketOptionKeys = { schema: true } satisfies Keys<KVBucketOptions>

/** `raw`: somebody wrote bytes without saying what they are, as legacy clients do with texts. */
export type ValueType = "json" | "text" | "bytes" | "raw"

/** What can happen to a key. */
export type KvOperation = "put" | "delete" | "purge" | "expire"

export interface StoredValue {
  readonly type: ValueType
  readonly bytes: Uint8Array
}

/** The value as bytes. `what` names it in the `ValidationError` or `LimitExceededError` that it throws. */
export const encodeValue = (value: unknown, what: string): StoredValue => {
  // UTF-8 has nothing for half a character, and JSON an escape
  if (typeof value === "string" && !hasHalfCharacter(value))
    return { type: "text", bytes: Buffer.from(value) }
  if (value instanceof Uint8Array) return { type: "bytes", bytes: value }
  const text = encodeJson(value, what)
  if (text === undefined) {
    throw new ValidationError(`${what} is undefined, which cannot be stored: put null, or delete the key`)
  }
  return { type: "json", bytes: Buffer.from(text) }
}

/** The value of a key as bytes. Throws as {@link encodeValue} does, also for what is too large. */
export const encodeKeyValue = (key: string, value: unknown): StoredValue => {
  const what = `The value of key "${key}"`
  const stored = encodeValue(value, what)
  if (stored.bytes.byteLength > kvValueBytes) {
    throw new LimitExceededError(what, stored.bytes.byteLength, kvValueBytes, "bytes")
  }
  return stored
}

/** The value again. Raw bytes are taken for JSON, else for text, else for what they are. */
export const decodeValue = ({ type, bytes }: StoredValue): unknown => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  switch (type) {
    case "bytes":
      return new Uint8Array(buffer)
    case "text":
      return buffer.toString()
    case "json":
      return safeJsonParse(buffer.toString())
    case "raw": {
      if (!isUtf8(buffer)) return new Uint8Array(buffer)
      const text = buffer.toString()
      return safeJsonParse<unknown>(text, text)
    }
  }
}

/** How types travel. `charset=binary` tells bytes from the texts that legacy clients send as `octet-stream`. */
export const contentTypes: { readonly [Type in ValueType]: string } = {
  json: "application/json",
  text: "text/plain; charset=utf-8",
  bytes: "application/octet-stream; charset=binary",
  raw: "application/octet-stream"
}

/** The type of what comes with a content type; whatever is not known is raw. */
export const typeOfContent = (contentType: string | undefined): ValueType => {
  const said = contentType?.toLowerCase().replaceAll(" ", "") ?? ""
  if (said.startsWith("application/json")) return "json"
  if (said.startsWith("text/plain")) return "text"
  return said === "application/octet-stream;charset=binary" ? "bytes" : "raw"
}

/**
 * A value that a client writes travels as legacy servers know it: JSON, or octets that say no more. This header tells the
 * engine of this package what octets were.
 */
export const VALUE_TYPE_HEADER = "x-ironflow-value-type"

export const writtenAs = (
  type: ValueType
): { readonly contentType: string; readonly headers: { readonly [name: string]: string } } =>
  type === "json"
    ? { contentType: contentTypes.json, headers: {} }
    : { contentType: contentTypes.raw, headers: { [VALUE_TYPE_HEADER]: type } }

/** The type of a written value: what the header says of octets, else what the content type says. */
export const typeOfWritten = (
  contentType: string | undefined,
  header: string | ReadonlyArray<string> | undefined
): ValueType => {
  const type = typeOfContent(contentType)
  return type === "raw" && (header === "text" || header === "bytes") ? header : type
}

/** A value as JSON can carry it: bytes as base64, anything else as the text that it is. */
export interface CarriedValue {
  readonly type: Exclude<ValueType, "raw">
  readonly data: string
}

export const toCarried = ({ bytes, type }: StoredValue): CarriedValue => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // bytes that nobody has named are bytes
  return type === "bytes" || type === "raw"
    ? { type: "bytes", data: buffer.toString("base64") }
    : { type, data: buffer.toString() }
}

export const fromCarried = ({ data, type }: CarriedValue): StoredValue => ({
  type,
  bytes: Buffer.from(data, type === "bytes" ? "base64" : "utf8")
})
