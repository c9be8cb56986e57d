/** Encodes values of keys as bytes. The bytes are those that legacy clients send; a type describes them. */
import { isUtf8 } from "node:buffer"
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { encodeJson, safeJsonParse } from "./Json.ts"
import { hasLoneSurrogate, kvValueBytes } from "./Limits.ts"
import type { Keys } from "./OptionKeys.ts"
import type { AnySchema } from "./StandardSchema.ts"

/** Options of a bucket. */
export interface KVBucketOptions<S extends AnySchema | undefined = AnySchema> {
  /**
   * Types the values, and checks each one that is read or written: a Standard Schema (Zod, Valibot, ArkType) or an Effect schema.
   * An Effect schema encodes the type that it decodes to (a `Date`). With other schemas, writes take the input type and reads
   * return the output type. A value that does not match fails with `KeySchemaError`.
   */
  readonly schema: S
}

export const bucketOptionKeys = { schema: true } satisfies Keys<KVBucketOptions>

/** `raw`: bytes of an unspecified type, as legacy clients write strings. */
export type ValueType = "json" | "text" | "bytes" | "raw"

/** The operations on a key. */
export type KvOperation = "put" | "delete" | "purge" | "expire"

export interface StoredValue {
  readonly type: ValueType
  readonly bytes: Uint8Array
}

/** The value as bytes. `what` names it in the `ValidationError` or `LimitExceededError` that it throws. */
export const encodeValue = (value: unknown, what: string): StoredValue => {
  // UTF-8 cannot encode lone surrogates, but JSON can escape them
  if (typeof value === "string" && !hasLoneSurrogate(value))
    return { type: "text", bytes: Buffer.from(value) }
  if (value instanceof Uint8Array) return { type: "bytes", bytes: value }
  const text = encodeJson(value, what)
  if (text === undefined) {
    throw new ValidationError(`${what} is undefined, which cannot be stored: put null, or delete the key`)
  }
  return { type: "json", bytes: Buffer.from(text) }
}

/** The value of a key as bytes. Throws like {@link encodeValue}, and for a value that is too large. */
export const encodeKeyValue = (key: string, value: unknown): StoredValue => {
  const what = `The value of key "${key}"`
  const stored = encodeValue(value, what)
  if (stored.bytes.byteLength > kvValueBytes) {
    throw new LimitExceededError(what, stored.bytes.byteLength, kvValueBytes, "bytes")
  }
  return stored
}

/** Decodes a value. Raw bytes are decoded as JSON, else as a string, else kept as bytes. */
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

/** The content types on the wire. `charset=binary` tells bytes from the strings that legacy clients send as `octet-stream`. */
export const contentTypes: { readonly [Type in ValueType]: string } = {
  json: "application/json",
  text: "text/plain; charset=utf-8",
  bytes: "application/octet-stream; charset=binary",
  raw: "application/octet-stream"
}

/** The value type of a content type; unknown ones are raw. */
export const typeOfContent = (contentType: string | undefined): ValueType => {
  const said = contentType?.toLowerCase().replaceAll(" ", "") ?? ""
  if (said.startsWith("application/json")) return "json"
  if (said.startsWith("text/plain")) return "text"
  return said === "application/octet-stream;charset=binary" ? "bytes" : "raw"
}

/**
 * Clients write values in the content types of legacy servers: JSON, or octets. This header tells the engine of this package the
 * type of octets.
 */
export const VALUE_TYPE_HEADER = "x-ironflow-value-type"

export const writtenAs = (
  type: ValueType
): { readonly contentType: string; readonly headers: { readonly [name: string]: string } } =>
  type === "json"
    ? { contentType: contentTypes.json, headers: {} }
    : { contentType: contentTypes.raw, headers: { [VALUE_TYPE_HEADER]: type } }

/** The type of a written value: from the header for octets, else from the content type. */
export const typeOfWritten = (
  contentType: string | undefined,
  header: string | ReadonlyArray<string> | undefined
): ValueType => {
  const type = typeOfContent(contentType)
  return type === "raw" && (header === "text" || header === "bytes") ? header : type
}

/** A value inside JSON: bytes as base64, anything else as a string. */
export interface CarriedValue {
  readonly type: Exclude<ValueType, "raw">
  readonly data: string
}

export const toCarried = ({ bytes, type }: StoredValue): CarriedValue => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // bytes of an unspecified type are kept as bytes
  return type === "bytes" || type === "raw"
    ? { type: "bytes", data: buffer.toString("base64") }
    : { type, data: buffer.toString() }
}

export const fromCarried = ({ data, type }: CarriedValue): StoredValue => ({
  type,
  bytes: Buffer.from(data, type === "bytes" ? "base64" : "utf8")
})
