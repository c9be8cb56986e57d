/** `ironflow subscribe`: prints events as they happen, until a signal ends the command. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as ClientHttp from "../Client/HttpServices.ts"
import { type Delivered, Subscriptions } from "../Client/Subscriptions.ts"
import { ironflow, serverOptions } from "./Ironflow.ts"
import { oneLine, jsonLine } from "./Output.ts"
import { givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

export const subscribe = Command.make(
  "subscribe",
  {
    pattern: Argument.String("pattern").pipe(
      Argument.withDescription("What to subscribe to, such as events:order.*, topic:news or system.run.>")
    ),
    replay: Flag.Int("replay").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many past events to begin with, 1000 at most"),
      Flag.withDefault(0)
    ),
    filter: textFlag("filter").pipe(
      Flag.withMetavar("CEL"),
      Flag.withDescription("Only events for which this expression is true, such as event.data.amount > 100"),
      Flag.optional
    ),
    group: textFlag("group").pipe(
      Flag.withMetavar("NAME"),
      Flag.withDescription(
        "Share the events with the other members of this consumer group; printed events are acked"
      ),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ filter, group, pattern, replay }) {
    const { json } = yield* ironflow
    const options = yield* serverOptions
    const { stream } = yield* Effect.provide(Subscriptions, ClientHttp.layer(options))
    yield* Stream.runForEach(
      stream(pattern, {
        replay,
        includeMetadata: true,
        ...givenFlags({ filter }),
        ...Option.match(group, {
          onNone: () => ({}),
          // whatever the ack mode of the group is, an event counts as handled when it is printed
          onSome: (consumerGroup) => ({ consumerGroup, ackMode: "auto" as const })
        })
      }),
      (event) => Console.log(json ? JSON.stringify(printedMembers(event)) : line(event))
    )
  }, Effect.provide(FetchHttpClient.layer))
).pipe(
  Command.withDescription("Print events as they happen. Ctrl-C stops the command."),
  Command.withShortDescription("Print events as they happen"),
  Command.withExamples([{ command: "ironflow subscribe 'events:order.*' --replay 10" }])
)

const printedMembers = ({ data, eventId, meta, topic }: Delivered) => ({ topic, eventId, data, meta })

const line = ({ data, meta, topic }: Delivered): string =>
  `${meta?.timestamp ?? ""}  ${oneLine(topic)}  ${jsonLine(data, 1000)}`
