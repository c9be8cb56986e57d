/**
 * Carries out the writes of `step.tx` in a test client, in memory. It keeps only the versions and types of streams and
 * the revisions of keys: that is enough to find conflicts.
 */
import type { NewStreamEvent } from "../EntityStream.ts"
import { refusalOf, type StreamState } from "../Engine/Streams/StreamRows.ts"
import { NonRetryableError, RevisionConflictError } from "../Errors.ts"
import type { ExpectedVersion } from "../ExpectedVersion.ts"
import { decodeJson } from "../Json.ts"
import { decodeValue, fromValueInJson } from "../KvValue.ts"
import type { TxKvWrite, TxWrite, TxWriteResult } from "../Protocol/Worker.ts"

/** An event written by a `step.tx`. */
export interface TestWrittenEvent {
  /** Name of the event. */
  readonly name: string
  /** Data of the event, as stored. */
  readonly data: unknown
  /** Schema version of the data. */
  readonly version: number
  /** Metadata of the event, as stored. */
  readonly metadata?: unknown
}

/** A write that the body of a `step.tx` asked for. */
export type TestWrite =
  | {
      /** Kind of the write. */
      readonly _tag: "append"
      /** Id of the entity. */
      readonly entityId: string
      /** Type of the entity. */
      readonly entityType: string
      /** The required version of the stream. */
      readonly expectedVersion?: ExpectedVersion
      /** The events, in order. */
      readonly events: ReadonlyArray<TestWrittenEvent>
    }
  | ({ /** Kind of the write. */ readonly _tag: "emit" } & TestWrittenEvent)
  | {
      /** Kind of the write. */
      readonly _tag: "kv"
      /** Name of the bucket. */
      readonly bucket: string
      /** The key. */
      readonly key: string
      /** The value; absent when the write deletes the key. */
      readonly value?: unknown
      /** The required revision of the key; 0 when it must not exist. */
      readonly expected?: number
    }

/** A key after its last write. */
interface TestKey {
  readonly revision: number
  readonly exists: boolean
}

export class StepTxMemory {
  #state = new TxState()
  readonly #newEventId: () => string

  constructor(newEventId: () => string) {
    this.#newEventId = newEventId
  }

  setStream(entityId: string, stream: StreamState): void {
    this.#state.streams.set(entityId, stream)
  }

  setKey(bucket: string, key: string, revision: number): void {
    this.#state.setKey(bucket, key, { revision, exists: true })
  }

  /** Applies all of the writes. When one of them is refused, it throws the reason and changes nothing. */
  transact(writes: ReadonlyArray<TxWrite>): ReadonlyArray<TxWriteResult> {
    const state = new TxState(this.#state)
    let conflict: RevisionConflictError | undefined
    const results = writes.map((write): TxWriteResult => {
      switch (write._tag) {
        case "append":
          return state.append(write, this.#newEventId)
        case "emit":
          return { _tag: "emit", eventId: this.#newEventId(), position: ++state.position, runIds: [] }
        case "kv": {
          conflict ??= state.conflictOf(write)
          const { bucket, key } = write
          return { _tag: "kv", bucket, key, revision: state.write(write) }
        }
        default:
          return unknownWrite(write)
      }
    })
    // an engine checks the versions of streams before the revisions of keys
    if (conflict !== undefined) throw conflict
    this.#state = state
    return results
  }
}

class TxState {
  readonly streams: Map<string, StreamState>
  /** The keys by bucket and key, joined by a slash: the name of a bucket contains none. */
  readonly #keys: Map<string, TestKey>
  /** The newest revision of each bucket. */
  readonly #revisions: Map<string, number>
  position: number

  constructor(original?: TxState) {
    this.streams = new Map(original?.streams)
    this.#keys = new Map(original === undefined ? [] : original.#keys)
    this.#revisions = new Map(original === undefined ? [] : original.#revisions)
    this.position = original?.position ?? 0
  }

  append(write: Extract<TxWrite, { readonly _tag: "append" }>, newEventId: () => string): TxWriteResult {
    const { entityId, entityType } = write
    const stream = this.streams.get(entityId)
    const refusal = refusalOf(stream, write)
    if (refusal !== undefined) throw refusal
    const oldVersion = stream?.version ?? 0
    const events = write.events.map((_, i) => ({
      eventId: newEventId(),
      entityVersion: oldVersion + i + 1,
      position: ++this.position
    }))
    const entityVersion = oldVersion + events.length
    this.streams.set(entityId, { entityType, version: entityVersion })
    return { _tag: "append", entityId, entityVersion, position: this.position, events }
  }

  setKey(bucket: string, key: string, state: TestKey): void {
    this.#keys.set(`${bucket}/${key}`, state)
    this.#revisions.set(bucket, Math.max(this.#revisions.get(bucket) ?? 0, state.revision))
  }

  conflictOf({ bucket, expected, key }: TxKvWrite): RevisionConflictError | undefined {
    const storedKey = this.#keys.get(`${bucket}/${key}`)
    const actual = storedKey?.exists === true ? storedKey.revision : 0
    return expected === undefined || expected === actual
      ? undefined
      : new RevisionConflictError(bucket, key, expected, actual)
  }

  /** Returns the revision of the key after the write. */
  write({ bucket, key, value }: TxKvWrite): number {
    const storedKey = this.#keys.get(`${bucket}/${key}`)
    // deleting a key that does not exist changes nothing
    if (value === undefined && storedKey?.exists !== true) return storedKey?.revision ?? 0
    const revision = (this.#revisions.get(bucket) ?? 0) + 1
    this.setKey(bucket, key, { revision, exists: value !== undefined })
    return revision
  }
}

/** The writes in the form in which tests receive them. */
export const readWrites = (writes: ReadonlyArray<TxWrite>): Array<TestWrite> =>
  writes.map((write) => {
    switch (write._tag) {
      case "append":
        return { ...write, events: write.events.map(readEvent) }
      case "emit":
        return { _tag: write._tag, ...readEvent(write) }
      case "kv": {
        const { value, ...rest } = write
        return value === undefined ? rest : { ...rest, value: decodeValue(fromValueInJson(value)) }
      }
      default:
        return unknownWrite(write)
    }
  })

const readEvent = ({ data, metadata, name, version }: NewStreamEvent): TestWrittenEvent => ({
  name,
  data: decodeJson(data),
  version,
  ...(metadata === undefined ? {} : { metadata: decodeJson(metadata) })
})

const unknownWrite = ({ _tag }: { readonly _tag: string }): never => {
  throw new NonRetryableError(
    `createTestClient() does not carry out writes of kind "${_tag}" of a step.tx, and nothing was written. ` +
      "Test this function with createTestEngine(), which does",
    { code: "UNIMPLEMENTED" }
  )
}
