/**
 * Data on its way to where it is kept and back, as a schema says: values of keys, events of entities.
 *
 * An Effect schema encodes what goes out (`effectCodec` in `EffectSchema.ts`). Other schemas only read, so what goes out is
 * what they will be given again: it is checked in the form in which it is kept, where a `Date` is a text.
 */
import { SchemaValidationError } from "./Errors.ts"
import { decodeJson, encodeJson, isPlainJson } from "./Json.ts"
import { decodeValue, encodeValue } from "./KvValue.ts"
import { fits, type StandardSchemaV1, validateData } from "./StandardSchema.ts"

/**
 * Both directions answer at once, unless the schema is asynchronous. They throw, or reject with, `SchemaValidationError` for
 * what does not fit, and `ValidationError` for what cannot be kept; `what` names the data in them.
 */
export interface DataCodec {
  readonly encode: (value: unknown, what: string) => unknown
  readonly decode: (kept: unknown, what: string) => unknown
}

/** How data is kept. */
export interface Carrier {
  /** Whether what an Effect schema writes is kept as it is, and not in the form that Effect has for it in JSON. */
  readonly carries: (encoded: unknown) => boolean
  /** The value as it will be read. Throws `ValidationError` when it cannot be kept. */
  readonly kept: (value: unknown, what: string) => unknown
}

/** Events and states: JSON. */
export const jsonCarrier: Carrier = {
  carries: isPlainJson,
  // nothing is kept as an empty object
  kept: (value, what) => decodeJson(encodeJson(value, what) ?? "{}")
}

/** Values of keys: JSON or bytes. */
export const keyCarrier: Carrier = {
  carries: (encoded) => encoded instanceof Uint8Array || isPlainJson(encoded),
  kept: (value, what) => decodeValue(encodeValue(value, what))
}

/** The codec of a schema that only reads. */
export const standardCodec = (schema: StandardSchemaV1, { kept }: Carrier): DataCodec => ({
  encode: (value, what) => {
    const it = kept(value, what)
    const refuse = (error: unknown): never => {
      throw error instanceof SchemaValidationError && fits(schema, value)
        ? new SchemaValidationError(
            `${error.message}. It fits before it is JSON, which has no dates and nothing undefined in it: ` +
              "give it as text, and let the schema convert that, or take a schema that encodes (an Effect schema)",
            { validationErrors: error.validationErrors }
          )
        : error
    }
    try {
      const checked = validateData(schema, it, what)
      return checked instanceof Promise ? checked.then(() => it, refuse) : it
    } catch (error) {
      return refuse(error)
    }
  },
  decode: (value, what) => validateData(schema, value, what)
})
