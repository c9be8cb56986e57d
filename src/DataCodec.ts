/**
 * Encodes and decodes stored data with schemas: values of KV keys, and events and states of entities.
 *
 * An Effect schema encodes data before it is stored (`effectCodec` in `EffectSchema.ts`). Other schemas only decode:
 * they check data in its stored form, in which a `Date` is a string.
 */
import { SchemaValidationError } from "./Errors.ts"
import { decodeJson, encodeJson, isPlainJson } from "./Json.ts"
import { decodeValue, encodeValue } from "./KvValue.ts"
import { fits, type StandardSchemaV1, validateData } from "./StandardSchema.ts"

/**
 * Encodes and decodes synchronously, unless the schema is asynchronous. Throws, or rejects with,
 * `SchemaValidationError` for data that does not match, and `ValidationError` for data that cannot be stored. `what`
 * names the data in the messages of both errors.
 */
export interface DataCodec {
  readonly encode: (value: unknown, what: string) => unknown
  readonly decode: (stored: unknown, what: string) => unknown
}

/** The storage format of data. */
export interface StorageFormat {
  /**
   * Whether the output of an Effect schema can be stored as it is. If not, its form in Effect's JSON is
   * stored.
   */
  readonly canStore: (encoded: unknown) => boolean
  /** The value after a round trip through storage. Throws `ValidationError` when the value cannot be stored. */
  readonly roundTrip: (value: unknown, what: string) => unknown
}

/** JSON, for events and states. */
export const jsonFormat: StorageFormat = {
  canStore: isPlainJson,
  // `undefined` is stored as an empty object
  roundTrip: (value, what) => decodeJson(encodeJson(value, what) ?? "{}")
}

/** JSON or bytes, for values of KV keys. */
export const keyFormat: StorageFormat = {
  canStore: (encoded) => encoded instanceof Uint8Array || isPlainJson(encoded),
  roundTrip: (value, what) => decodeValue(encodeValue(value, what))
}

/** Makes the codec of a schema that can only decode. */
export const standardCodec = (schema: StandardSchemaV1, { roundTrip }: StorageFormat): DataCodec => ({
  encode: (value, what) => {
    const stored = roundTrip(value, what)
    const refuse = (error: unknown): never => {
      throw error instanceof SchemaValidationError && fits(schema, value)
        ? new SchemaValidationError(
            `${error.message}. The data fits only before it becomes JSON, which has no dates and no undefined: ` +
              "give a string and let the schema convert it, or use a schema that encodes (an Effect schema)",
            { validationErrors: error.validationErrors }
          )
        : error
    }
    try {
      const checked = validateData(schema, stored, what)
      return checked instanceof Promise ? checked.then(() => stored, refuse) : stored
    } catch (error) {
      return refuse(error)
    }
  },
  decode: (value, what) => validateData(schema, value, what)
})
