/** The entity streams of a test client: what a `step.tx` appends to, in memory. Only types and versions are kept. */
import type { ExpectedVersion, NewStreamEvent } from "../EntityStream.ts"
import { refusalOf, type StreamState } from "../Engine/Store/StreamRows.ts"
import { NonRetryableError } from "../Errors.ts"
import { decodeJson } from "../Json.ts"
import type { TxWrite, TxWriteResult } from "../Protocol/Worker.ts"

/** An event that a `step.tx` wrote. */
export interface TestWrittenEvent {
  readonly name: string
  readonly data: any
  readonly version: number
  readonly metadata?: any
}

/** What the body of a `step.tx` asked to be written. */
export type TestWrite =
  | {
      readonly _tag: "append"
      readonly entityId: string
      readonly entityType: string
      readonly expectedVersion?: ExpectedVersion
      readonly events: ReadonlyArray<TestWrittenEvent>
    }
  | ({ readonly _tag: "emit" } & TestWrittenEvent)

export class TestStreams {
  #streams = new Map<string, StreamState>()
  #position = 0
  readonly #newEventId: () => string

  constructor(newEventId: () => string) {
    this.#newEventId = newEventId
  }

  set(entityId: string, state: StreamState): void {
    this.#streams.set(entityId, state)
  }

  /** Carries out all of the writes, or throws why one of them is refused; then nothing has changed. */
  transact(writes: ReadonlyArray<TxWrite>): ReadonlyArray<TxWriteResult> {
    const streams = new Map(this.#streams)
    let position = this.#position
    const results = writes.map((write): TxWriteResult => {
      switch (write._tag) {
        case "append": {
          const { entityId, entityType } = write
          const before = streams.get(entityId)
          const refused = refusalOf(before, write)
          if (refused !== undefined) throw refused
          const from = before?.version ?? 0
          const events = write.events.map((_, i) => ({
            eventId: this.#newEventId(),
            entityVersion: from + i + 1,
            position: ++position
          }))
          const entityVersion = from + events.length
          streams.set(entityId, { entityType, version: entityVersion })
          return { _tag: "append", entityId, entityVersion, position, events }
        }
        case "emit":
          return { _tag: "emit", eventId: this.#newEventId(), position: ++position, runIds: [] }
        default:
          return unknownWrite(write)
      }
    })
    this.#streams = streams
    this.#position = position
    return results
  }
}

/** The writes as a test looks at them. */
export const readWrites = (writes: ReadonlyArray<TxWrite>): Array<TestWrite> =>
  writes.map((write) => {
    switch (write._tag) {
      case "append":
        return { ...write, events: write.events.map(readEvent) }
      case "emit":
        return { _tag: write._tag, ...readEvent(write) }
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
