/**
 * A minimal implementation of Protocol Buffers for the messages of `worker.proto`, so that an engine needs no package for them.
 * Tables describe the messages.
 *
 * Unknown fields are skipped. Integers are numbers, a `Timestamp` is epoch milliseconds, a `Struct` is an object, and a `Value`
 * is any JSON.
 */
import { LimitExceededError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { MESSAGE_DAMAGED } from "../Seal.ts"

/** Type of a field. */
export type Type =
  | "string"
  | "bool"
  | "int"
  | "double"
  | "time"
  | "struct"
  | "value"
  /** `map<string, string>` */
  | "stringMap"
  | Message

export interface Field {
  readonly number: number
  readonly type: Type
  readonly repeated?: true
}

/** The fields of a message, by name. */
export interface Message {
  readonly fields: { readonly [name: string]: Field }
}

/** A decoded message; fields that were not sent are absent. */
export interface Data {
  readonly [field: string]: unknown
}

const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

/** Maximum nesting of messages, and of a `Struct`. */
const MAX_DEPTH = 100

/**
 * Maximum number of fields of one message, including those of nested messages and the values of a `Struct`. To read that many
 * takes about a tenth of a second.
 */
const MAX_FIELDS = 200_000

const wireTypeOf = (type: Type): number =>
  type === "bool" || type === "int" ? VARINT : type === "double" ? FIXED64 : BYTES

// ---------------------------------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------------------------------

/** Decodes a message. Throws `ValidationError` for invalid bytes. */
export const decode = (message: Message, bytes: Buffer): Data =>
  readMessage(message, new Reader(bytes, { fields: 0 }), 0)

class Reader {
  readonly #bytes: Buffer
  /** Counts the fields read so far. Shared by the readers of nested messages. */
  readonly #counter: { fields: number }
  #position = 0

  constructor(bytes: Buffer, counter: { fields: number }) {
    this.#bytes = bytes
    this.#counter = counter
  }

  /** The tag of the next field. */
  tag(): number {
    if (++this.#counter.fields > MAX_FIELDS) {
      throw new LimitExceededError(
        "The number of fields in a message",
        this.#counter.fields,
        MAX_FIELDS,
        "fields"
      )
    }
    return this.uint32()
  }

  /** A reader of the content of the field whose tag was just read. */
  nestedReader(): Reader {
    return new Reader(this.bytes(), this.#counter)
  }

  get isAtEnd(): boolean {
    return this.#position >= this.#bytes.length
  }

  varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#position++]
      if (byte === undefined) throw malformed("it ends in the middle of a number")
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw malformed("a number is too long")
  }

  /** An unsigned number of at most 32 bits, for tags and lengths. */
  uint32(): number {
    let value = 0
    for (let scale = 1; scale <= 2 ** 28; scale *= 128) {
      const byte = this.#bytes[this.#position++]
      if (byte === undefined) throw malformed("it ends in the middle of a number")
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
    }
    throw malformed("a tag or a length is too long")
  }

  double(): number {
    return this.#take(8).readDoubleLE(0)
  }

  bytes(): Buffer {
    return this.#take(this.uint32())
  }

  skip(wireType: number): void {
    switch (wireType) {
      case VARINT:
        return void this.varint()
      case FIXED64:
        return void this.#take(8)
      case BYTES:
        return void this.bytes()
      case FIXED32:
        return void this.#take(4)
      default:
        throw malformed(`${wireType} is not a type of a field`)
    }
  }

  #take(length: number): Buffer {
    const end = this.#position + length
    if (end > this.#bytes.length) throw malformed("it ends in the middle of a field")
    const slice = this.#bytes.subarray(this.#position, end)
    this.#position = end
    return slice
  }
}

const malformed = (problem: string): ValidationError =>
  new ValidationError(`The message cannot be read: ${problem}`, { code: MESSAGE_DAMAGED })

const fieldsByNumber = new WeakMap<Message, ReadonlyMap<number, readonly [name: string, field: Field]>>()

const fieldsOf = (message: Message): ReadonlyMap<number, readonly [name: string, field: Field]> => {
  let fields = fieldsByNumber.get(message)
  if (fields === undefined) {
    fields = new Map(Object.entries(message.fields).map(([name, field]) => [field.number, [name, field]]))
    fieldsByNumber.set(message, fields)
  }
  return fields
}

const readMessage = (message: Message, reader: Reader, depth: number): Data => {
  if (depth > MAX_DEPTH) throw malformed(`it is more than ${MAX_DEPTH} levels deep`)
  const fields = fieldsOf(message)
  const data: Record<string, unknown> = {}
  while (!reader.isAtEnd) {
    const tag = reader.tag()
    const [name, field] = fields.get(tag >>> 3) ?? []
    if (name === undefined || field === undefined || wireTypeOf(field.type) !== (tag & 7)) {
      reader.skip(tag & 7)
      continue
    }
    if (field.type === "stringMap") {
      readEntry((data[name] ??= {}), reader.nestedReader())
      continue
    }
    const value = readValue(field.type, reader, depth)
    if (field.repeated !== true) data[name] = value
    else if (Array.isArray(data[name])) data[name].push(value)
    else data[name] = [value]
  }
  return data
}

const readValue = (type: Exclude<Type, "stringMap">, reader: Reader, depth: number): unknown => {
  switch (type) {
    case "string":
      return reader.bytes().toString()
    case "bool":
      return reader.varint() !== 0n
    case "int":
      return Number(BigInt.asIntN(64, reader.varint()))
    case "double":
      return reader.double()
    case "time": {
      const { nanos, seconds } = readMessage(timestamp, reader.nestedReader(), depth + 1)
      return Number(seconds ?? 0) * 1000 + Math.trunc(Number(nanos ?? 0) / 1e6)
    }
    case "struct":
      return readStruct(reader.nestedReader(), depth + 1)
    case "value":
      return readJson(reader.nestedReader(), depth + 1)
    default:
      return readMessage(type, reader.nestedReader(), depth + 1)
  }
}

const timestamp: Message = {
  fields: { seconds: { number: 1, type: "int" }, nanos: { number: 2, type: "int" } }
}

const readEntry = (entries: unknown, reader: Reader): void => {
  const { key = "", value = "" } = readMessage(textEntry, reader, 0)
  if (isObject(entries)) setMember(entries, String(key), value)
}

const textEntry: Message = {
  fields: { key: { number: 1, type: "string" }, value: { number: 2, type: "string" } }
}

/** Sets a member of an object. Even a member called `__proto__` becomes plain data. */
const setMember = (object: { [key: string]: unknown }, key: string, value: unknown): void => {
  if (key !== "__proto__") object[key] = value
  else Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true })
}

const readStruct = (reader: Reader, depth: number): { readonly [key: string]: unknown } => {
  if (depth > MAX_DEPTH) throw malformed(`it is more than ${MAX_DEPTH} levels deep`)
  const object = {}
  while (!reader.isAtEnd) {
    const tag = reader.tag()
    if (tag !== tagOf(1, BYTES)) {
      reader.skip(tag & 7)
      continue
    }
    const entry = reader.nestedReader()
    let key = ""
    let value: unknown = null
    while (!entry.isAtEnd) {
      const part = entry.tag()
      if (part === tagOf(1, BYTES)) key = entry.bytes().toString()
      else if (part === tagOf(2, BYTES)) value = readJson(entry.nestedReader(), depth + 1)
      else entry.skip(part & 7)
    }
    setMember(object, key, value)
  }
  return object
}

const readJson = (reader: Reader, depth: number): unknown => {
  if (depth > MAX_DEPTH) throw malformed(`it is more than ${MAX_DEPTH} levels deep`)
  let value: unknown = null
  while (!reader.isAtEnd) {
    const tag = reader.tag()
    switch (tag) {
      case tagOf(1, VARINT):
        reader.varint()
        value = null
        break
      case tagOf(2, FIXED64):
        value = requireFinite(reader.double())
        break
      case tagOf(3, BYTES):
        value = reader.bytes().toString()
        break
      case tagOf(4, VARINT):
        value = reader.varint() !== 0n
        break
      case tagOf(5, BYTES):
        value = readStruct(reader.nestedReader(), depth + 1)
        break
      case tagOf(6, BYTES): {
        const list = reader.nestedReader()
        const values: Array<unknown> = []
        while (!list.isAtEnd) {
          const item = list.tag()
          if (item === tagOf(1, BYTES)) values.push(readJson(list.nestedReader(), depth + 1))
          else list.skip(item & 7)
        }
        value = values
        break
      }
      default:
        reader.skip(tag & 7)
    }
  }
  return value
}

const requireFinite = (value: number): number => {
  if (Number.isFinite(value)) return value
  throw malformed(`${value} is not a number that JSON can represent`)
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing
// ---------------------------------------------------------------------------------------------------------------------

/** Encodes a message. Fields with an empty string, `false` or 0 are left out. */
export const encode = (message: Message, data: Data): Buffer => {
  const parts: Array<Buffer> = []
  for (const [name, field] of Object.entries(message.fields)) {
    const value = data[name]
    if (value === undefined || value === null) continue
    if (field.type === "stringMap") {
      for (const [key, text] of Object.entries(value)) {
        parts.push(bytesField(field.number, encode(textEntry, { key, value: text })))
      }
    } else if (field.repeated === true) {
      if (Array.isArray(value))
        for (const item of value) writeField(parts, field.number, field.type, item, true)
    } else {
      writeField(parts, field.number, field.type, value, false)
    }
  }
  return Buffer.concat(parts)
}

const tagOf = (number: number, wireType: number): number => number * 8 + wireType

const varint = (value: bigint | number): Buffer => {
  const bytes: Array<number> = []
  let rest = BigInt.asUintN(64, BigInt(value))
  do {
    const byte = Number(rest & 0x7fn)
    rest >>= 7n
    bytes.push(rest === 0n ? byte : byte | 0x80)
  } while (rest !== 0n)
  return Buffer.from(bytes)
}

/** A length-delimited field. */
const bytesField = (number: number, bytes: Buffer): Buffer =>
  Buffer.concat([varint(tagOf(number, BYTES)), varint(bytes.length), bytes])

const doubleField = (number: number, value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleLE(value)
  return Buffer.concat([varint(tagOf(number, FIXED64)), bytes])
}

const writeField = (
  parts: Array<Buffer>,
  number: number,
  type: Exclude<Type, "stringMap">,
  value: unknown,
  keepDefault: boolean
): void => {
  switch (type) {
    case "string":
      if (value !== "" || keepDefault) parts.push(bytesField(number, Buffer.from(String(value))))
      return
    case "bool":
      if (value === true || keepDefault)
        parts.push(varint(tagOf(number, VARINT)), varint(value === true ? 1 : 0))
      return
    case "int":
      if (value !== 0 || keepDefault) parts.push(varint(tagOf(number, VARINT)), varint(Number(value)))
      return
    case "double":
      if (value !== 0 || keepDefault) parts.push(doubleField(number, Number(value)))
      return
    case "time": {
      const ms = Number(value)
      const seconds = Math.floor(ms / 1000)
      parts.push(bytesField(number, encode(timestamp, { seconds, nanos: (ms - seconds * 1000) * 1e6 })))
      return
    }
    case "struct":
      parts.push(bytesField(number, structBytes(value)))
      return
    case "value":
      parts.push(bytesField(number, jsonBytes(value)))
      return
    default:
      // the caller passes values that match the table
      parts.push(bytesField(number, encode(type, isObject(value) ? value : {})))
  }
}

const structBytes = (value: unknown): Buffer =>
  Buffer.concat(
    Object.entries(isObject(value) ? value : {}).map(([key, item]) =>
      bytesField(1, Buffer.concat([bytesField(1, Buffer.from(key)), bytesField(2, jsonBytes(item))]))
    )
  )

const jsonBytes = (value: unknown): Buffer => {
  if (value === null || value === undefined) return Buffer.concat([varint(tagOf(1, VARINT)), varint(0)])
  if (typeof value === "number") return doubleField(2, value)
  if (typeof value === "string") return bytesField(3, Buffer.from(value))
  if (typeof value === "boolean") return Buffer.concat([varint(tagOf(4, VARINT)), varint(value ? 1 : 0)])
  return Array.isArray(value)
    ? bytesField(6, Buffer.concat(value.map((item) => bytesField(1, jsonBytes(item)))))
    : bytesField(5, structBytes(value))
}
