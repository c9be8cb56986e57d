/**
 * Entity streams over HTTP, on the engine of this package ("our engine") and on legacy servers. Conflicts and missing
 * streams are recognized by the error or the status in the answer. Calls that only our engine has fail with code
 * `UNIMPLEMENTED` on legacy servers.
 */
import * as Effect from "effect/Effect"
import {
  checkAppend,
  checkAppendOne,
  checkEntityId,
  type NewStreamEvent,
  type StreamAppend
} from "../EntityStream.ts"
import {
  type IronflowError,
  SnapshotNotFoundError,
  StreamNotFoundError,
  VersionConflictError
} from "../Errors.ts"
import { encodeJson } from "../Json.ts"
import { checkName, checkSize, snapshotBytes } from "../Limits.ts"
import { reader, snakeKeys } from "../Protocol/Codec.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import * as calls from "../Protocol/Streams.ts"
import { jsonObject, quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { Connection } from "./HttpConnection.ts"
import { type Input, makeOperationCalls } from "./OperationCalls.ts"
import { makeEventsMethod, nullIfMissing } from "./StreamPages.ts"
import { checkCount, checkList, checkRead, pageAfter, upcastEvents } from "./StreamReading.ts"
import { makeAppendMethods } from "./TypedEmit.ts"
import type {
  AppendAllResult,
  NamedAppends,
  ReadingOptions,
  ReadStreamOptions,
  ReadStreamResult,
  StreamEvent,
  StreamInfo,
  UntypedStreams
} from "./Streams.ts"

/** How many events one request asks for, when a stream is too large for one answer. */
const PART_SIZE = 100

export const make = (
  connection: Connection,
  { eventDefinitions }: ReadingOptions = {}
): Raw<UntypedStreams> => {
  const { ask, failUnsupported } = makeOperationCalls(connection)

  const info = (entityId: string): Effect.Effect<StreamInfo, IronflowError> =>
    Effect.map(
      ask(calls.getStreamInfo, "streams.getInfo", { subject: entityId, body: snakeKeys({ entityId }) }),
      (info) => ({ ...info, updatedAt: info.updatedAt || info.createdAt })
    )

  /** Makes the call of an append. The values of `event` are JSON. */
  const sendAppend = <A>(
    operation: Operation<A>,
    what: string,
    append: StreamAppend,
    event: { readonly [name: string]: string | undefined } | undefined,
    more: Input<A> = {},
    read?: (answer: unknown) => A | undefined
  ) =>
    checkExistsFirst(
      append,
      withConflictError(
        append,
        ask(
          operation,
          what,
          {
            subject: append.entityId,
            body: appendBody(append, event),
            repeatable: append.idempotencyKey !== undefined,
            ...more
          },
          read
        )
      )
    )

  /**
   * Turns a conflict into a `VersionConflictError`. Legacy servers report a conflict only in a message, some of them
   * without the current version.
   */
  const withConflictError = <A>(append: StreamAppend, appendCall: Effect.Effect<A, IronflowError>) =>
    Effect.catch(appendCall, (error): Effect.Effect<A, IronflowError> => {
      const { entityId, expectedVersion = -1 } = append
      if (error instanceof VersionConflictError && expectedVersion === "NO_STREAM") {
        // the error names `NO_STREAM`, as the user does, and not 0, which is its value on the wire
        return Effect.fail(new VersionConflictError(entityId, expectedVersion, error.actualVersion))
      }
      if (!isConflict(error)) return Effect.fail(error)
      const actual = actualVersionIn(error.message)
      return Effect.flatMap(
        actual === undefined
          ? // the error should name the current version; if this cannot be read, the conflict is reported without it
            Effect.catch(
              Effect.map(info(entityId), ({ version }): number | undefined => version),
              () => Effect.succeed(undefined)
            )
          : Effect.succeed(actual),
        (actual) => Effect.fail(new VersionConflictError(entityId, expectedVersion, actual, { cause: error }))
      )
    })

  /**
   * For `STREAM_EXISTS`, first checks that the stream exists, since legacy servers do not know this condition. The
   * check stays valid, since a stream never ceases to exist.
   */
  const checkExistsFirst = <A>(append: StreamAppend, appendCall: Effect.Effect<A, IronflowError>) =>
    append.expectedVersion !== "STREAM_EXISTS"
      ? appendCall
      : Effect.matchEffect(info(append.entityId), {
          onFailure: (error) =>
            Effect.fail(
              error instanceof StreamNotFoundError
                ? new VersionConflictError(append.entityId, "STREAM_EXISTS", 0, { cause: error })
                : error
            ),
          onSuccess: () => appendCall
        })

  const read: Raw<UntypedStreams>["read"] = (entityId, options = {}) =>
    Effect.catchIf(
      readAtOnce(entityId, options),
      ({ code }) => code === "LIMIT_EXCEEDED" && options.limit !== 1,
      () => readInParts(entityId, options)
    )

  /** Reads a stream in several requests, when it is too large for one answer. */
  const readInParts = (entityId: string, options: ReadStreamOptions) =>
    Effect.gen(function* () {
      const { limit = 0 } = options
      const events: Array<StreamEvent> = []
      let totalCount = 0
      let page: ReadStreamOptions | undefined = {
        ...options,
        limit: limit === 0 ? PART_SIZE : Math.ceil(limit / 2)
      }
      while (page !== undefined) {
        const part: ReadStreamResult = yield* read(entityId, page)
        events.push(...part.events)
        totalCount = part.totalCount
        const nextLimit: number =
          limit === 0 ? PART_SIZE : Math.min(limit - events.length, page.limit ?? PART_SIZE)
        const nextPage = pageAfter(page, part)
        page = nextPage === undefined || nextLimit <= 0 ? undefined : { ...nextPage, limit: nextLimit }
      }
      return { events, totalCount }
    })

  const readAtOnce: Raw<UntypedStreams>["read"] = (entityId, options) =>
    Effect.flatMap(
      validated(() => ({ id: checkEntityId(entityId), ...checkRead(entityId, options) })),
      ({ direction, fromVersion, id, limit }) =>
        Effect.map(
          ask(calls.readStream, "streams.read", {
            subject: id,
            body: snakeKeys({ entityId: id, fromVersion, limit, direction })
          }).pipe(
            // some legacy servers answer 404 for a stream without events
            Effect.catchIf(isStreamNotFound, () => Effect.succeed({ events: [], totalCount: 0 }))
          ),
          (result) => upcastEvents(result, eventDefinitions)
        )
    )

  const namedAppends: NamedAppends<IronflowError> = {
    append: (entityId, input, options = {}) =>
      Effect.flatMap(
        validated(() => checkAppendOne(entityId, input, options)),
        (event) =>
          sendAppend(
            calls.appendEvent,
            "streams.append",
            event,
            event.events[0] && eventFields(event.events[0])
          )
      ),
    appendAll: (entityId, input, options = {}) =>
      Effect.flatMap(
        validated(() => checkAppend(entityId, input, options)),
        (batch) =>
          sendAppend(
            calls.appendEvents,
            "streams.appendAll",
            batch,
            { events: `[${batch.events.map((event) => jsonObject(eventFields(event))).join(",")}]` },
            {
              whenUnsupported: failUnsupported(
                `streams.appendAll(${quote(batch.entityId)})`,
                "Append the events one by one with streams.append"
              )
            },
            readAppendedAll
          )
      )
  }

  return {
    ...makeAppendMethods(namedAppends),
    read,
    events: makeEventsMethod(read),
    getInfo: (entityId) =>
      Effect.flatMap(
        validated(() => checkEntityId(entityId)),
        info
      ),
    findInfo: (entityId) =>
      Effect.flatMap(
        validated(() => checkEntityId(entityId)),
        (id) => nullIfMissing(info(id))
      ),
    listStreams: (options) =>
      Effect.flatMap(
        validated(() => checkList(options)),
        ({ entityType, limit, offset }) =>
          Effect.map(
            ask(calls.restStreams, "streams.listStreams", {
              query: `?${new URLSearchParams(
                snakeKeys({
                  limit: String(limit),
                  offset: String(offset),
                  ...(entityType === undefined ? {} : { entityType })
                })
              )}`,
              whenUnsupported: failUnsupported(
                "streams.listStreams()",
                "streams.getInfo shows whether a stream exists"
              )
            }),
            ({ streams, totalCount }) => ({ streams, totalCount: totalCount || streams.length })
          )
      ),
    createSnapshot: (entityId, input) =>
      Effect.flatMap(
        validated(() => {
          const id = checkEntityId(entityId)
          const what = `Snapshot of stream "${id}"`
          const version = checkCount(`The version of a snapshot of stream "${id}"`, input?.entityVersion)
          return {
            id,
            body: jsonObject(
              snakeKeys({
                entityId: JSON.stringify(id),
                entityType: JSON.stringify(checkName(`entity type of "${id}"`, input.entityType)),
                entityVersion: String(version),
                state: checkSize(what, encodeJson(input.state, what) ?? "null", snapshotBytes)
              })
            )
          }
        }),
        ({ body, id }) =>
          ask(calls.createSnapshot, "streams.createSnapshot", {
            subject: id,
            body,
            whenUnsupported: failUnsupported(
              `streams.createSnapshot(${quote(id)})`,
              "streams.read returns all events"
            )
          })
      ),
    getSnapshot: (entityId, { beforeVersion = 0 } = {}) =>
      Effect.flatMap(
        validated(() => ({
          id: checkEntityId(entityId),
          before: checkCount(`\`beforeVersion\` of stream "${entityId}"`, beforeVersion)
        })),
        ({ before, id }) =>
          Effect.catchIf(
            ask(calls.getSnapshot, "streams.getSnapshot", {
              subject: id,
              body: snakeKeys({ entityId: id, beforeVersion: before }),
              whenUnsupported: failUnsupported(
                `streams.getSnapshot(${quote(id)})`,
                "streams.read returns all events"
              )
            }),
            (error) => error instanceof SnapshotNotFoundError || error instanceof StreamNotFoundError,
            () => Effect.succeed(undefined)
          )
      )
  }
}

const readAppendAll = reader(calls.appendEvents.answer!)

const readAppendedAll = (answer: unknown): AppendAllResult | undefined => {
  const sentResult = readAppendAll(answer)
  const lastEvent = sentResult?.events.at(-1)
  return (
    sentResult &&
    lastEvent && { ...sentResult, entityVersion: lastEvent.entityVersion, position: lastEvent.position }
  )
}

/** The body of an append. It has all fields, since servers read an absent field as zero. */
const appendBody = (
  { entityId, entityType, expectedVersion, idempotencyKey }: StreamAppend,
  event: { readonly [name: string]: string | undefined } | undefined
): string =>
  jsonObject(
    snakeKeys({
      entityId: JSON.stringify(entityId),
      entityType: JSON.stringify(entityType),
      ...event,
      expectedVersion: String(
        expectedVersion === "NO_STREAM" ? 0 : typeof expectedVersion === "number" ? expectedVersion : -1
      ),
      idempotencyKey: JSON.stringify(idempotencyKey ?? "")
    })
  )

const eventFields = ({ data, metadata, name, version }: NewStreamEvent) =>
  snakeKeys({ eventName: JSON.stringify(name), data, version: String(version), metadata })

const isStreamNotFound = (error: IronflowError): boolean =>
  error instanceof StreamNotFoundError || /^stream not found$/i.test(error.message)

/** Whether the error is a conflict that a legacy server reports. Our engine sends a `VersionConflictError` itself. */
const isConflict = (error: IronflowError): boolean =>
  !(error instanceof VersionConflictError) &&
  error.status === 409 &&
  /version/i.test(error.message) &&
  /conflict|mismatch/i.test(error.message)

/** The current version in a message such as "expected 3, actual 4" or "current version is 4". */
const actualVersionIn = (message: string): number | undefined => {
  const match = /\b(?:actual|current|found|got|now)\b\D{0,20}(\d{1,15})/i.exec(message)
  return match === null ? undefined : Number(match[1])
}
