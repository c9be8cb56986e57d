/** `ironflow events`: reads the event log. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Client, type ListEventsOptions, type LoggedEvent } from "../Client/Client.ts"
import * as ClientHttp from "../Client/HttpServices.ts"
import { ValidationError } from "../Errors.ts"
import { Subscriptions } from "../Client/Subscriptions.ts"
import { ironflow, serverOptions } from "./Ironflow.ts"
import { keepTrying } from "./KeepTrying.ts"
import { fields, oneLine, jsonLine, table, toJson } from "./Output.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const clientCommand = commandsOf(Client)

const optionalTextFlag = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)

const filters = {
  name: Argument.String("name").pipe(
    Argument.withDescription("Only events of this name, or of a pattern such as order.*"),
    Argument.optional
  ),
  entity: optionalTextFlag("entity", "ID", "Only events of the stream of this entity"),
  entityType: optionalTextFlag("entity-type", "TYPE", "Only events of the streams of entities of this type"),
  idempotencyKey: optionalTextFlag(
    "idempotency-key",
    "KEY",
    "Only the event that was emitted with this idempotency key"
  ),
  since: optionalTextFlag("since", "TIME", "Only events from this time on, such as 2026-11-29T10:00:00Z"),
  until: optionalTextFlag("until", "TIME", "Only events before this time")
}

type Filters = { readonly [Name in keyof typeof filters]: Option.Option<string> }

const optionsOf = ({ entity, ...others }: Filters): ListEventsOptions =>
  // the other flags have the names of the client's options
  Object.fromEntries(
    Object.entries({ entityId: entity, ...others }).flatMap(([name, value]) =>
      Option.isSome(value) ? [[name, value.value]] : []
    )
  )

const list = clientCommand("list", {
  description: "List events, the newest first.",
  parameters: {
    ...filters,
    oldest: Flag.Boolean("oldest").pipe(
      Flag.withDescription("The oldest first"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many at most, up to 1000; 20 by default"),
      Flag.withDefault(20)
    ),
    cursor: optionalTextFlag("cursor", "CURSOR", "The cursor that the previous page printed")
  },
  call: (client, { cursor, limit, oldest, ...filters }) =>
    client.listEvents({
      ...optionsOf(filters),
      limit,
      order: oldest ? "oldest" : "newest",
      ...givenFlags({ cursor })
    }),
  text: (page, { limit }) => {
    const { events, lookedTo, nextCursor } = page
    const rows = events.map((event) => [event.id, event.timestamp, oneLine(event.name), jsonLine(event.data)])
    return [
      ...(rows.length > 0 ? [table(["EVENT", "AT", "NAME", "DATA"], rows)] : []),
      ...(nextCursor === undefined
        ? rows.length > 0
          ? []
          : ["There are no such events."]
        : [
            `${rows.length < limit ? `Searched as far as ${lookedTo?.timestamp}; the rest of the log is not searched yet` : "There may be more"}; the next page: --cursor ${nextCursor}`
          ])
    ].join("\n")
  }
}).pipe(Command.withExamples([{ command: "ironflow events list 'order.*' --since 2026-11-29 --limit 50" }]))

const get = clientCommand("get", {
  description: "Show an event: its data, and everything else that is stored with it.",
  parameters: {
    eventId: Argument.String("event-id").pipe(
      Argument.withDescription("The id of the event, as `events list` shows it")
    )
  },
  call: (client, { eventId }) => client.getEvent(eventId),
  text: (event) =>
    fields({
      event: event.id,
      name: oneLine(event.name),
      version: String(event.version),
      at: event.timestamp,
      position: String(event.position),
      source: event.source,
      entity:
        event.entity === undefined
          ? undefined
          : oneLine(`${event.entity.type} ${event.entity.id}, version ${event.entity.version}`),
      "idempotency key": event.idempotencyKey === undefined ? undefined : oneLine(event.idempotencyKey),
      metadata: event.metadata === undefined ? undefined : jsonLine(event.metadata, 2000),
      data: jsonLine(event.data, 2000)
    })
})

const why = clientCommand("why", {
  description: "Show which functions an event started, and why it did not start the others.",
  parameters: {
    eventId: Argument.String("event-id").pipe(
      Argument.withDescription("The id of the event, as `events list` shows it")
    ),
    all: Flag.Boolean("all").pipe(
      Flag.withDescription("Also the functions that do not listen to events of this name"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  call: (client, { eventId }) => client.explainEvent(eventId),
  text: ({ functions, name, timestamp }, { all }) => {
    const listed = all ? functions : functions.filter(({ code }) => code !== "NO_TRIGGER")
    const notListening = functions.length - listed.length
    const rows = listed.map(({ code, functionId, message, runs = [] }) => [
      functionId,
      code,
      runs.length === 0
        ? oneLine(message, 400)
        : runs.map(({ runId, status }) => `${runId} ${status}`).join(", ")
    ])
    return [
      `Event ${oneLine(name)} of ${timestamp}:`,
      ...(rows.length === 0 ? ["No function listens to it."] : [table(["FUNCTION", "WHY", "WHAT"], rows)]),
      ...(notListening === 0
        ? []
        : [
            `${notListening} other ${notListening === 1 ? "function does" : "functions do"} not listen to events of this name; --all shows ${notListening === 1 ? "it" : "them"}.`
          ])
    ].join("\n")
  }
}).pipe(Command.withExamples([{ command: "ironflow events why evt_1" }]))

/** How many new events `events tail` reads at once. */
const PAGE = 100
/** Maximum number of earlier events that are printed first: as many as one answer of the server can have. */
const MAX_LAST = 1000

const tail = Command.make(
  "tail",
  {
    ...filters,
    last: Flag.Int("last").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many earlier events to print first, up to 1000; 10 by default, 0 for none"),
      Flag.withDefault(10)
    )
  },
  Effect.fnUntraced(function* ({ last, ...filters }) {
    const { json } = yield* ironflow
    if (last < 0 || last > MAX_LAST) {
      return yield* new ValidationError(`--last must be an integer from 0 to ${MAX_LAST}, got ${last}`)
    }
    const options = optionsOf(filters)
    const show = (events: ReadonlyArray<LoggedEvent>) =>
      Effect.forEach(events, (event) => Console.log(json ? toJson(event) : line(event)), { discard: true })
    const services = ClientHttp.layer(yield* serverOptions)
    yield* Effect.gen(function* () {
      const client = yield* Client
      const { stream } = yield* Subscriptions
      const newestPage = yield* client.listEvents({ limit: 1 })
      let after = newestPage.lookedTo?.position ?? 0
      if (last !== 0) {
        const { events } = yield* client.listEvents({ ...options, limit: last })
        // `showNewer` prints newer events
        const earlier = events.filter(({ position }) => position <= after)
        yield* show(earlier.toReversed())
      }
      const showNewer = Effect.gen(function* () {
        for (let isMore = true; isMore;) {
          const page = yield* client.listEvents({ ...options, after, order: "oldest", limit: PAGE })
          yield* show(page.events)
          after = page.lookedTo?.position ?? after
          isMore = page.nextCursor !== undefined
        }
      })
      // The subscription only tells when to look for new events. `replay: 1` also reports an event that was stored
      // before the subscription was active.
      yield* keepTrying(
        stream(`events:${options.name ?? ">"}`, { replay: 1 }).pipe(
          Stream.buffer({ capacity: 1, strategy: "sliding" }),
          Stream.runForEach(() => showNewer)
        )
      )
    }).pipe(Effect.provide(services), Effect.provide(FetchHttpClient.layer))
  })
).pipe(
  Command.withDescription(
    "Print the last few events, then each new event when it is stored. Ctrl-C stops the command."
  ),
  Command.withExamples([{ command: "ironflow events tail --entity order-123 --json" }])
)

const line = ({ data, name, timestamp }: LoggedEvent): string =>
  `${timestamp}  ${oneLine(name)}  ${jsonLine(data, 1000)}`

export const events = Command.make("events").pipe(
  Command.withAlias("event"),
  Command.withDescription("Look at the events in the log."),
  Command.withShortDescription("Look at events"),
  Command.withSubcommands([list, get, why, tail])
)
