/** Collects the writes in the body of a `step.tx`. They are stored together with the step, or not at all. */
import type { AnyEntity } from "../Entity.ts"
import {
  definitionForAppend,
  type GivenEntityEvent,
  appendMismatch,
  toAppendInput
} from "../EntityDefinitions.ts"
import {
  type AppendAllInput,
  type AppendEventInput,
  checkAppend,
  checkAppendOne,
  checkStreamEvent,
  type DefinedAppendInput,
  type GivenAppendAllInput,
  sizeOf,
  type StreamAppend,
  type StreamEventInput
} from "../EntityStream.ts"
import { keyFormat } from "../DataCodec.ts"
import { codecOf, jsonCodec } from "../EffectSchema.ts"
import {
  InvalidStateError,
  KeySchemaError,
  LimitExceededError,
  SchemaValidationError,
  UnsupportedError,
  ValidationError
} from "../Errors.ts"
import { type EventRef, isEventDefinition } from "../Event.ts"
import { encodeEventNow, type GivenEvent, isByDefinition, type EventByName } from "../EventEncoding.ts"
import { checkBucketName, checkKey, checkRevision } from "../KvKeys.ts"
import { bucketOptionKeys, encodeKeyValue, type KVBucketOptions, toValueInJson } from "../KvValue.ts"
import { writeBytes, writesAtOnce } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { checkAppendAllKeys, checkAppendKeys } from "../Protocol/AppendOptionKeys.ts"
import type { Job, TxWrite } from "../Protocol/Worker.ts"
import { type AnySchema, checkSchema, type SchemaInput } from "../StandardSchema.ts"
import type {
  PlainKind,
  Tx,
  TxAppendAllOptions,
  TxAppendOptions,
  TxDeleteKeyOptions,
  TxEmitOptions,
  TxEntityStreams,
  TxKvBucket
} from "../Step.ts"

const eventKeys = { version: true, metadata: true } satisfies Keys<TxEmitOptions>
const appendAllKeys = { expectedVersion: true } satisfies Keys<TxAppendAllOptions>

export class TxCollector implements Tx {
  readonly #stepName: string
  readonly #writes: Array<TxWrite> = []
  readonly #writtenKeys = new Set<string>()
  #count = 0
  #bytes = 0
  #isOpen = true

  constructor(stepName: string) {
    this.#stepName = stepName
  }

  readonly streams = {
    append: (
      entityId: string,
      input: AppendEventInput | DefinedAppendInput,
      options?: TxAppendOptions
    ): void => {
      checkAppendKeys(input, this.#call("streams.append"))
      checkKeys(
        options,
        { ...eventKeys, ...appendAllKeys } satisfies Keys<TxAppendOptions>,
        this.#call("streams.append")
      )
      if (!isByDefinition(input)) return this.#append(checkAppendOne(entityId, input, options))
      const { version, ...named } = encodeEventNow({ ...input, version: options?.version }, jsonCodec)
      this.#append(
        checkAppendOne(entityId, named, { ...options, ...(version === undefined ? {} : { version }) })
      )
    },
    appendAll: (entityId: string, input: GivenAppendAllInput, options?: TxAppendAllOptions): void => {
      checkAppendAllKeys(input, this.#call("streams.appendAll"))
      checkKeys(options, appendAllKeys, this.#call("streams.appendAll"))
      const events = Array.isArray(input?.events)
        ? input.events.map((event) => encodeEventNow(event, jsonCodec))
        : input?.events
      this.#append(checkAppend(entityId, { ...input, events } as AppendAllInput, options))
    },
    of: <N extends AnyEntity>(entity: N): TxEntityStreams<PlainKind, N["events"][number]> => {
      const appendAll = (
        method: string,
        entityId: string,
        events: ReadonlyArray<GivenEntityEvent>,
        options?: TxAppendAllOptions
      ): void => {
        checkKeys(options, appendAllKeys, this.#call(`streams.of(...).${method}`))
        const encodedEvents = Array.isArray(events)
          ? (events as ReadonlyArray<GivenEntityEvent>).map((event) => encodeEvent(entity, entityId, event))
          : events
        this.#append(checkAppend(entityId, { entityType: entity.type, events: encodedEvents }, options))
      }
      return {
        append: (entityId, event, options) => appendAll("append", entityId, [event], options),
        appendAll: (entityId, events, options) => appendAll("appendAll", entityId, events, options)
      }
    }
  }

  emit(event: EventRef, data?: unknown, options: TxEmitOptions = {}): void {
    checkKeys(options, eventKeys, this.#call("emit"))
    const eventInput = isEventDefinition(event)
      ? { ...options, event, data }
      : { ...options, name: event, data }
    const named: EventByName<GivenEvent> = encodeEventNow<GivenEvent>(eventInput, jsonCodec)
    // the event may lack a version, in spite of its type: then the check assumes 1
    const checkedEvent = checkStreamEvent(named as StreamEventInput)
    this.#add({ _tag: "emit", ...checkedEvent }, 1, sizeOf(checkedEvent))
  }

  kv<S extends AnySchema | undefined = undefined>(
    bucket: string,
    options?: KVBucketOptions<S>
  ): TxKvBucket<SchemaInput<S>> {
    checkKeys(options, bucketOptionKeys, this.#call("kv"))
    const encode =
      options?.schema === undefined
        ? (_key: string, value: unknown) => ({ value })
        : keyEncoder(bucket, options.schema)
    return {
      put: (key, value) => this.#write(bucket, key, encode(key, value)),
      create: (key, value) => this.#write(bucket, key, encode(key, value), 0),
      update: (key, value, revision) => this.#write(bucket, key, encode(key, value), checkRevision(revision)),
      delete: (key, options) => {
        checkKeys(options, { revision: true } satisfies Keys<TxDeleteKeyOptions>, this.#call("kv.delete"))
        this.#write(
          bucket,
          key,
          undefined,
          options?.revision === undefined ? undefined : checkRevision(options.revision)
        )
      }
    }
  }

  /** How messages name a call that the body makes. */
  #call(name: string): string {
    return `${name}() of step "${this.#stepName}"`
  }

  #write(
    bucket: string,
    key: string,
    newValue: { readonly value: unknown } | undefined,
    expected?: number
  ): void {
    // the name of a bucket contains no slash, so this text stands for one key of one bucket
    const bucketAndKey = `${checkBucketName(bucket)}/${checkKey(key)}`
    if (this.#writtenKeys.has(bucketAndKey)) {
      throw new ValidationError(
        `Key "${key}" of bucket "${bucket}" is written twice in the transaction of step "${this.#stepName}": write it once`
      )
    }
    const storedValue = newValue === undefined ? undefined : encodeKeyValue(key, newValue.value)
    this.#add(
      {
        _tag: "kv",
        bucket,
        key,
        ...(storedValue === undefined ? {} : { value: toValueInJson(storedValue) }),
        ...(expected === undefined ? {} : { expected })
      },
      1,
      storedValue?.bytes.byteLength ?? 0
    )
    this.#writtenKeys.add(bucketAndKey)
  }

  #append({ idempotencyKey: _, ...append }: StreamAppend): void {
    // no idempotency key is needed: the step is recorded once, together with its writes
    const bytes = append.events.reduce((total, event) => total + sizeOf(event), 0)
    this.#add({ _tag: "append", ...append }, append.events.length, bytes)
  }

  /** Returns the writes. From now on writes are refused. */
  close(): ReadonlyArray<TxWrite> {
    this.#isOpen = false
    return this.#writes
  }

  /** Adds a write. `count` is how many writes it counts as, and `bytes` is its size. */
  #add(write: TxWrite, count: number, bytes: number): void {
    if (!this.#isOpen) {
      throw new InvalidStateError(
        `The body of step "${this.#stepName}" has ended: nothing can be added to its transaction any more. ` +
          "Await what the body starts"
      )
    }
    const [allCount, allBytes] = [this.#count + count, this.#bytes + bytes]
    const what = `The transaction of step "${this.#stepName}"`
    if (allCount > writesAtOnce) throw new LimitExceededError(what, allCount, writesAtOnce, "writes")
    if (allBytes > writeBytes) throw new LimitExceededError(what, allBytes, writeBytes, "bytes")
    this.#count = allCount
    this.#bytes = allBytes
    this.#writes.push(write)
  }
}

/** Makes a function that encodes values with the schema of a bucket. It throws `KeySchemaError` for a misfit. */
const keyEncoder = (bucket: string, given: AnySchema) => {
  const schema = checkSchema(given, `\`schema\` of bucket "${bucket}"`)
  const codec = codecOf(schema, keyFormat)
  return (key: string, value: unknown): { readonly value: unknown } => ({
    value: encodeSync(
      () => codec.encode(value, `The value of key "${key}"`),
      (problems, cause) => new KeySchemaError(bucket, key, undefined, problems, { cause })
    )
  })
}

/** Encodes an event to append with the definition of its entity. Throws `StreamSchemaError` for a misfit. */
const encodeEvent = (entity: AnyEntity, entityId: string, event: GivenEntityEvent): StreamEventInput => {
  const definition = definitionForAppend(entity, entityId, event)
  const { name, schema } = definition
  const data = encodeSync(
    () => jsonCodec(schema).encode(event.data, `Data of event "${name}" for entity "${entityId}"`),
    appendMismatch(entityId, name)
  )
  return toAppendInput(definition, event, data)
}

/**
 * Returns the result of a synchronous codec. Throws the error of `makeError` for data that does not fit. Also throws
 * when the codec is asynchronous.
 */
const encodeSync = (
  run: () => unknown,
  makeError: (problems: ReadonlyArray<string>, cause: unknown) => ValidationError
): unknown => {
  try {
    const result = run()
    if (!(result instanceof Promise)) return result
    // the result of an asynchronous codec is ignored: its rejection must not be an unhandled one
    result.catch(() => undefined)
  } catch (error) {
    throw error instanceof SchemaValidationError ? makeError(error.validationErrors, error.cause) : error
  }
  throw new ValidationError(
    "A value that `step.tx` writes has a schema that validates asynchronously, and in a transaction a schema must be synchronous: validate the value before `step.tx`"
  )
}

/** Throws when the engine of the turn cannot store the writes of a step together with the step. */
export const checkTransactions = ({ job }: { readonly job: Job }, stepName: string): void => {
  if (job.transactions === true) return
  throw new UnsupportedError(
    `Step "${stepName}" cannot run: the engine of this worker does not have \`step.tx\`, and nothing was done. The engine is ` +
      "older than this package, or is a legacy server. Write with `step.run` and an idempotency key instead"
  )
}
