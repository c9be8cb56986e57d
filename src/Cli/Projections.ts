/** `ironflow projections`: shows and controls projections. */
import { hostname, userInfo } from "node:os"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Projections, type ProjectionStatusInfo } from "../Client/Projections.ts"
import { ironflow } from "./Ironflow.ts"
import { fields, oneLine, print, jsonLine, table } from "./Output.ts"
import { callService, provideServer } from "./ServerCalls.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"
import { ownerText } from "../Projection/OwnerName.ts"

const projectionsCommand = commandsOf(Projections)

const name = Argument.String("name")

const list = projectionsCommand("list", {
  description: "List the projections with their status.",
  call: (projections) => projections.list(),
  json: (projections) => ({ projections }),
  text: (projections) =>
    projections.length === 0
      ? "There are no projections: a worker registers its projections when it starts."
      : table(
          ["PROJECTION", "MODE", "STATUS", "POSITION", "LAG", "DEAD LETTERS", "OWNER"],
          projections.map((info) => [
            info.name,
            info.mode,
            info.status,
            String(info.lastEventSeq),
            String(info.lag),
            String(info.deadLetters),
            info.owner === undefined ? "" : ownerText(info.owner)
          ])
        )
})

const get = projectionsCommand("get", {
  description: "Show the state of a projection.",
  parameters: {
    name,
    partition: textFlag("partition").pipe(
      Flag.withMetavar("KEY"),
      Flag.withDescription("The partition whose state to show"),
      Flag.optional
    ),
    after: Flag.Int("after").pipe(
      Flag.withMetavar("POSITION"),
      Flag.withDescription("Wait until the projection has handled the log up to this position"),
      Flag.optional
    ),
    timeout: Flag.Int("timeout").pipe(
      Flag.withMetavar("MS"),
      Flag.withDescription("How long to wait at most, in milliseconds; 30000 by default"),
      Flag.withDefault(30_000)
    )
  },
  call: (projections, { after, name, partition, timeout }) =>
    projections.get(name, {
      timeout,
      after: Option.getOrUndefined(after),
      ...givenFlags({ partition })
    }),
  text: (result, { name }) =>
    fields({
      projection: result.name,
      partition: result.partition,
      status: result.status,
      "last event": result.lastEventId,
      position: String(result.lastEventSeq),
      updated: result.updatedAt,
      error: result.errorMessage === undefined ? undefined : oneLine(result.errorMessage),
      state: result.mode === "managed" ? jsonLine(result.state, 4000) : undefined,
      hint:
        result.mode === "managed" && result.lastEventId === undefined
          ? `nothing is projected in this partition. If the projection has partitions, \`ironflow projections watch ${name} --current\` prints the states of all, and --partition KEY shows one`
          : undefined
    })
}).pipe(Command.withExamples([{ command: "ironflow projections get order-totals --json" }]))

const watch = Command.make(
  "watch",
  {
    name,
    partition: textFlag("partition").pipe(
      Flag.withMetavar("KEY"),
      Flag.withDescription(
        "Print only the states of this partition; the states of all partitions by default"
      ),
      Flag.optional
    ),
    current: Flag.Boolean("current").pipe(
      Flag.withDescription("Begin with the existing states"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ current, name, partition }) {
    const { json } = yield* ironflow
    yield* provideServer(
      Effect.flatMap(Projections, (projections) =>
        Stream.runForEach(
          projections.subscribe(name, {
            includeCurrent: current,
            ...givenFlags({ partition })
          }),
          (result) =>
            Console.log(
              json
                ? JSON.stringify(result)
                : `${result.updatedAt}  ${oneLine(result.partition)}  ${result.lastEventSeq}  ${jsonLine(result.state, 1000)}`
            )
        )
      )
    )
  })
).pipe(
  Command.withDescription("Print the states of a projection as they change. Ctrl-C stops the command."),
  Command.withExamples([{ command: "ironflow projections watch order-totals --current" }])
)

const status = Command.make(
  "status",
  { name },
  Effect.fnUntraced(function* ({ name }) {
    yield* printStatus(yield* callService(Projections, (projections) => projections.status(name)))
  })
).pipe(Command.withDescription("Show the status of a projection, and the reason for it."))

const rebuild = projectionsCommand("rebuild", {
  description:
    "Rebuild a projection: delete its dead letters, and handle the whole log again. Readers see the old states until the rebuild is done. The handler of an external projection is called again for every event.",
  parameters: { name },
  call: (projections, { name }) => projections.rebuild(name),
  text: (info, { name }) => `Projection ${name} is being rebuilt from the log. ${info.message}`
})

const pause = Command.make(
  "pause",
  {
    name,
    reason: textFlag("reason").pipe(
      Flag.withMetavar("TEXT"),
      Flag.withDescription("The reason; it is shown with the status"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ name, reason }) {
    const by = `${userInfo().username}@${hostname()}`
    const info = yield* callService(Projections, (projections) =>
      projections.pause(name, {
        by,
        ...givenFlags({ reason })
      })
    )
    yield* print(
      info,
      () => `Projection ${name} is paused; \`ironflow projections resume ${name}\` continues it.`
    )
  })
).pipe(Command.withDescription("Pause a projection: it gets no more events until it is resumed."))

const resume = projectionsCommand("resume", {
  description: "Resume a paused projection.",
  parameters: { name },
  call: (projections, { name }) => projections.resume(name),
  text: (info, { name }) => `Projection ${name} continues. ${info.message}`
})

const deadLetters = projectionsCommand("dead-letters", {
  description: "List the events that a projection has given up on.",
  parameters: {
    name,
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many at most, up to 1000; 20 by default"),
      Flag.withDefault(20)
    ),
    after: Flag.Int("after").pipe(
      Flag.withMetavar("POSITION"),
      Flag.withDescription("Only dead letters after this position of the log"),
      Flag.withDefault(0)
    )
  },
  call: (projections, { after, limit, name }) => projections.deadLetters(name, { after, limit }),
  json: (letters) => ({ deadLetters: letters }),
  text: (letters, { name }) =>
    letters.length === 0
      ? `Projection ${name} has no dead letters.`
      : table(
          ["POSITION", "EVENT", "NAME", "ATTEMPTS", "FAILED", "ERROR"],
          letters.map((letter) => [
            String(letter.position),
            letter.event.id,
            letter.event.name,
            String(letter.attempts),
            letter.failedAt,
            oneLine(letter.error.message, 80)
          ])
        )
})

const retry = projectionsCommand("retry", {
  description: "Try dead letters again: the one at the position, or all without a position.",
  parameters: { name, position: Argument.Int("position").pipe(Argument.optional) },
  call: (projections, { name, position }) =>
    Option.match(position, {
      onNone: () => projections.retryDeadLetters(name),
      onSome: (position) => Effect.as(projections.retryDeadLetter(name, position), 1)
    }),
  json: (count) => ({ retrying: count }),
  text: (count, { name }) =>
    count === 0
      ? `Projection ${name} has no dead letters.`
      : `${count === 1 ? "1 dead letter is" : `${count} dead letters are`} tried again.`
})

const printStatus = (info: ProjectionStatusInfo) =>
  print(info, () =>
    fields({
      projection: info.name,
      mode: info.mode,
      status: info.status,
      why: oneLine(info.message),
      events: info.events.join(", "),
      partition: info.partitionKey,
      position: String(info.lastEventSeq),
      lag: String(info.lag),
      owner: info.owner,
      generation: String(info.generation),
      "paused by": info.pausedBy,
      "last error":
        info.lastError === undefined
          ? undefined
          : oneLine(
              `${info.lastError.message} (position ${info.lastError.position}, ${info.lastError.at})`,
              200
            ),
      "dead letters": String(info.deadLetters),
      "refused saves": String(info.refusedSaves)
    })
  )

export const projections = Command.make("projections").pipe(
  Command.withAlias("projection"),
  Command.withDescription("Show projections, and pause, resume and rebuild them."),
  Command.withShortDescription("Show and control projections"),
  Command.withSubcommands([list, get, watch, status, rebuild, pause, resume, deadLetters, retry])
)
