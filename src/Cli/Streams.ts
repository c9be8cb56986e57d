/** `ironflow streams`: shows entity streams, and appends to them. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Streams, type StreamsService } from "../Client/Streams.ts"
import type { IronflowError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"
import type { ExpectedVersion } from "../ExpectedVersion.ts"
import { readData } from "./Emit.ts"
import { fields, oneLine, print, jsonLine, table } from "./Output.ts"
import { provideServer } from "./ServerCalls.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const streamsCommand = commandsOf(Streams)

const entityId = Argument.String("entity-id")

const callStreams = <A, E>(call: (streams: StreamsService) => Effect.Effect<A, E>) =>
  provideServer(Effect.flatMap(Streams, call))

const list = streamsCommand("list", {
  description: "List the entity streams, in the order of their entity ids.",
  parameters: {
    type: textFlag("type").pipe(
      Flag.withMetavar("TYPE"),
      Flag.withDescription("Only streams of entities of this type"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many at most, up to 1000; 20 by default"),
      Flag.withDefault(20)
    ),
    offset: Flag.Int("offset").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many to skip"),
      Flag.withDefault(0)
    )
  },
  call: (streams, { limit, offset, type }) =>
    streams.listStreams({
      limit,
      offset,
      ...givenFlags({ entityType: type })
    }),
  text: (page, { offset }) => {
    if (page.streams.length === 0) return "There are no such streams."
    const rows = page.streams.map((stream) => [
      stream.entityId,
      stream.entityType,
      String(stream.version),
      stream.lastEventAt
    ])
    const streams = table(["ENTITY", "TYPE", "VERSION", "LAST EVENT"], rows)
    const next = offset + page.streams.length
    return next >= page.totalCount
      ? streams
      : `${streams}\n${page.totalCount} in all; the next page: --offset ${next}`
  }
})

const read = streamsCommand("read", {
  description: "Print the events of a stream.",
  parameters: {
    entityId,
    from: Flag.Int("from").pipe(
      Flag.withMetavar("VERSION"),
      Flag.withDescription(
        "The version to begin at; by default the first event, or the last with --backward"
      ),
      Flag.withDefault(0)
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many events at most, 50 by default; 0 for all"),
      Flag.withDefault(50)
    ),
    backward: Flag.Boolean("backward").pipe(
      Flag.withDescription("The newest first"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  call: (streams, { backward, entityId, from, limit }) =>
    streams.read(entityId, { fromVersion: from, limit, direction: backward ? "backward" : "forward" }),
  text: (result, { entityId }) => {
    if (result.totalCount === 0) return `Nothing was ever appended to stream ${oneLine(entityId)}.`
    const rows = result.events.map((event) => [
      String(event.entityVersion),
      event.timestamp,
      event.name,
      jsonLine(event.data, 120)
    ])
    const events = table(["VERSION", "AT", "EVENT", "DATA"], rows)
    return rows.length === result.totalCount
      ? events
      : `${events}\n${rows.length} of ${result.totalCount} events`
  }
})

const info = streamsCommand("info", {
  description: "Show the entity type and the version of a stream.",
  parameters: { entityId },
  call: (streams, { entityId }) => streams.getInfo(entityId),
  text: (stream) =>
    fields({
      entity: stream.entityId,
      type: stream.entityType,
      version: String(stream.version),
      events: String(stream.eventCount),
      created: stream.createdAt,
      updated: stream.updatedAt
    })
})

const append = Command.make(
  "append",
  {
    entityId,
    event: Argument.String("event").pipe(Argument.withDescription("The event's name, such as item.added")),
    data: Argument.String("data").pipe(
      Argument.withDescription(
        "The event's data as JSON, or - to read it from standard input; {} when left out"
      ),
      Argument.withDefault("{}")
    ),
    type: textFlag("type").pipe(
      Flag.withMetavar("TYPE"),
      Flag.withDescription("The type of the entity, such as order")
    ),
    expectedVersion: textFlag("expected-version").pipe(
      Flag.withMetavar("VERSION"),
      Flag.withDescription(
        "Append only if the stream is at this version: a number, NO_STREAM (no stream yet) or STREAM_EXISTS (any version)"
      ),
      Flag.optional
    ),
    idempotencyKey: textFlag("idempotency-key").pipe(
      Flag.withMetavar("KEY"),
      Flag.withDescription("Appending again with the same key within 24 hours changes nothing"),
      Flag.optional
    ),
    eventVersion: Flag.Int("event-version").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("The schema version of the event; 1 by default"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* (input) {
    const data = yield* readData(input.data)
    const expected = yield* readExpected(input.expectedVersion)
    const appended = yield* callStreams((streams) =>
      streams.append(
        input.entityId,
        { name: input.event, data, entityType: input.type },
        {
          ...(expected === undefined ? {} : { expectedVersion: expected }),
          ...givenFlags({ idempotencyKey: input.idempotencyKey, version: input.eventVersion })
        }
      )
    )
    yield* print(
      appended,
      () =>
        `Appended ${input.event} to stream ${oneLine(input.entityId)} as ${appended.eventId}. The stream is at version ${appended.entityVersion}.`
    )
  })
).pipe(
  Command.withDescription("Append an event to the stream of an entity."),
  Command.withExamples([
    {
      command: `ironflow streams append order-123 item.added '{"sku":"ABC"}' --type order --expected-version 3`
    }
  ])
)

const readExpected = (
  text: Option.Option<string>
): Effect.Effect<ExpectedVersion | undefined, IronflowError> => {
  const value = Option.getOrUndefined(text)
  if (value === undefined || value === "NO_STREAM" || value === "STREAM_EXISTS") return Effect.succeed(value)
  return /^\d{1,15}$/.test(value)
    ? Effect.succeed(Number(value))
    : Effect.fail(
        new CommandError(
          `--expected-version must be an integer, at least 0, or NO_STREAM or STREAM_EXISTS, got ${jsonLine(value)}`,
          { code: "USAGE" }
        )
      )
}

export const streams = Command.make("streams").pipe(
  Command.withAlias("stream"),
  Command.withDescription("Look at entity streams, and append to them."),
  Command.withShortDescription("Look at entity streams"),
  Command.withSubcommands([list, read, info, append])
)
