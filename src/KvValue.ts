/**
 * Encodes values of KV keys as bytes, the same bytes that legacy clients send. A type is stored with the bytes, and
 * tells how to decode them.
 */
import { isUtf8 } from "node:buffer"
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { encodeJson, safeJsonParse } from "./Json.ts"
import { hasLoneSurrogate, kvValueBytes } from "./Limits.ts"
import type { Keys } from "./OptionKeys.ts"
import type { AnySchema } from "./StandardSchema.ts"

/** Options of a bucket. */
export interface KVBucketOptions<S extends AnySchema | undefined = AnySchema> {
  /**
   * Types the values, and checks each one that is read or written: a Standard Schema (Zod, Valibot, ArkType)
   * or an Effect schema. An Effect schema also encodes: the values have the type to which it decodes (a
   * `Date`, for example). With other schemas, writes take the input type and reads return the output type. A
   * value that does not match fails with `KeySchemaError`.
   */
  readonly schema: S
}

export const bucketOptionKeys = { schema: true } satisfies Keys<KVBucketOptions>

/**
 * How the bytes of a value are decoded. `raw` is for bytes of an unspecified type: legacy clients send strings in this
 * form.
 */
export type ValueType = "json" | "text" | "bytes" | "raw"

/** The operations on a KV key. */
export type KvOperation = "put" | "delete" | "purge" | "expire"

export interface StoredValue {
  readonly type: ValueType
  readonly bytes: Uint8Array
}

/** The value as bytes. Throws `ValidationError` or `LimitExceededError`, in which `what` names the value. */
export const encodeValue = (value: unknown, what: string): StoredValue => {
  // UTF-8 cannot encode a lone surrogate; JSON can, by an escape
  if (typeof value === "string" && !hasLoneSurrogate(value))
    return { type: "text", bytes: Buffer.from(value) }
  if (value instanceof Uint8Array) return { type: "bytes", bytes: value }
  const text = encodeJson(value, what)
  if (text === undefined) {
    throw new ValidationError(`${what} is undefined, which cannot be stored: put null, or delete the key`)
  }
  return { type: "json", bytes: Buffer.from(text) }
}

/**
 * The value of a key as bytes. Throws what {@link encodeValue} throws, also for a value that is too large.
 */
export const encodeKeyValue = (key: string, value: unknown): StoredValue => {
  const what = `The value of key "${key}"`
  const stored = encodeValue(value, what)
  if (stored.bytes.byteLength > kvValueBytes) {
    throw new LimitExceededError(what, stored.bytes.byteLength, kvValueBytes, "bytes")
  }
  return stored
}

/**
 * Decodes a value. Raw bytes are decoded as JSON if they are valid JSON, or else as a string if they are valid UTF-8.
 * All other raw bytes stay bytes.
 */
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

/**
 * The content types on the wire. `charset=binary` tells bytes from the strings that legacy clients send as
 * `octet-stream`.
 */
export const contentTypes: { readonly [Type in ValueType]: string } = {
  json: "application/json",
  text: "text/plain; charset=utf-8",
  bytes: "application/octet-stream; charset=binary",
  raw: "application/octet-stream"
}

/** The type of values with this content type: `raw` if the content type is unknown or absent. */
export const typeOfContent = (contentType: string | undefined): ValueType => {
  const normalized = contentType?.toLowerCase().replaceAll(" ", "") ?? ""
  if (normalized.startsWith("application/json")) return "json"
  if (normalized.startsWith("text/plain")) return "text"
  return normalized === "application/octet-stream;charset=binary" ? "bytes" : "raw"
}

/**
 * The header with the type of a value that a client sends as octets. Legacy servers know only two content types, JSON
 * and octets, so clients use only these. From this header, the engine of this package knows whether octets are text or
 * bytes.
 */
export const VALUE_TYPE_HEADER = "x-ironflow-value-type"

/** The content type and headers with which a client writes a value of this type. */
export const headersOfWrite = (
  type: ValueType
): { readonly contentType: string; readonly headers: { readonly [name: string]: string } } =>
  type === "json"
    ? { contentType: contentTypes.json, headers: {} }
    : { contentType: contentTypes.raw, headers: { [VALUE_TYPE_HEADER]: type } }

/**
 * The type of a value that a client has written. For octets it is in the header; for other values it follows from the
 * content type.
 */
export const typeOfWrite = (
  contentType: string | undefined,
  header: string | ReadonlyArray<string> | undefined
): ValueType => {
  const type = typeOfContent(contentType)
  return type === "raw" && (header === "text" || header === "bytes") ? header : type
}

/** A value inside JSON: bytes as base64, anything else as a string. */
export interface ValueInJson {
  readonly type: Exclude<ValueType, "raw">
  readonly data: string
}

export const toValueInJson = ({ bytes, type }: StoredValue): ValueInJson => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // bytes of an unspecified type come back as bytes
  return type === "bytes" || type === "raw"
    ? { type: "bytes", data: buffer.toString("base64") }
    : { type, data: buffer.toString() }
}

export const fromValueInJson = ({ data, type }: ValueInJson): StoredValue => ({
  type,
  bytes: Buffer.from(data, type === "bytes" ? "base64" : "utf8")
})
