/** `ironflow groups`: shows and controls consumer groups. */
import { hostname, userInfo } from "node:os"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { type ConsumerGroup, ConsumerGroups } from "../Client/ConsumerGroups.ts"
import { fields, oneLine, print, jsonLine, table } from "./Output.ts"
import { callService } from "./ServerCalls.ts"
import { showMs } from "../Show.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const consumergroupsCommand = commandsOf(ConsumerGroups)

const name = Argument.String("name")

const namespace = textFlag("namespace").pipe(
  Flag.withMetavar("NAME"),
  Flag.withDescription('The namespace of the group; "default" if not given'),
  Flag.optional
)

/** The name of a group, and the flags that tell it from other groups of the same name. */
const groupInput = {
  name,
  namespace,
  pattern: textFlag("pattern").pipe(
    Flag.withMetavar("PATTERN"),
    Flag.withDescription(
      "The pattern that the group subscribes to; needed when several patterns have a group of this name"
    ),
    Flag.optional
  )
}

const list = consumergroupsCommand("list", {
  description: "List the consumer groups and their state.",
  parameters: {
    namespace: textFlag("namespace").pipe(
      Flag.withMetavar("NAME"),
      Flag.withDescription("Only groups of this namespace"),
      Flag.optional
    ),
    status: Flag.Literals("status", ["active", "paused"]).pipe(
      Flag.withDescription("Only groups with this status"),
      Flag.optional
    )
  },
  call: (groups, { namespace, status }) =>
    groups.list({
      ...givenFlags({ namespace, status })
    }),
  json: (groups) => ({ groups }),
  text: (groups) =>
    groups.length === 0
      ? "There are no consumer groups: a group is created when its first member subscribes."
      : table(
          [
            "GROUP",
            "PATTERN",
            "NAMESPACE",
            "STATUS",
            "MEMBERS",
            "POSITION",
            "LAG",
            "IN FLIGHT",
            "RETRYING",
            "DEAD LETTERS"
          ],
          groups.map((group) => [
            oneLine(group.name),
            group.pattern,
            oneLine(group.namespace),
            group.status,
            String(group.memberCount),
            String(group.position),
            String(group.lag),
            String(group.inFlight),
            String(group.retrying),
            String(group.deadLetters)
          ])
        )
})

const get = consumergroupsCommand("get", {
  description: "Show the state of a consumer group, and explain it.",
  parameters: groupInput,
  call: (groups, { name, namespace, pattern }) => groups.get(name, givenFlags({ namespace, pattern })),
  text: (group) => detailsOf(group)
}).pipe(
  Command.withExamples([
    { command: "ironflow groups get order-processors" },
    { command: "ironflow groups get audit --pattern 'events:order.*' --json" }
  ])
)

const pause = Command.make(
  "pause",
  {
    ...groupInput,
    reason: textFlag("reason").pipe(
      Flag.withMetavar("TEXT"),
      Flag.withDescription("The reason; it is shown with the group"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ name, ...flags }) {
    const by = `${userInfo().username}@${hostname()}`
    const group = yield* callService(ConsumerGroups, (groups) =>
      groups.pause(name, { by, ...givenFlags(flags) })
    )
    yield* print(
      group,
      () => `Consumer group ${name} is paused; \`ironflow groups resume ${name}\` continues it.`
    )
  })
).pipe(
  Command.withDescription("Pause a consumer group: it delivers nothing until it is resumed."),
  Command.withShortDescription("Pause a consumer group")
)

const resume = consumergroupsCommand("resume", {
  description: "Resume a paused consumer group at its position.",
  parameters: groupInput,
  call: (groups, { name, namespace, pattern }) => groups.resume(name, givenFlags({ namespace, pattern })),
  text: (group, { name }) => `Consumer group ${name} continues. ${oneLine(group.message)}`
})

const deadLetters = consumergroupsCommand("dead-letters", {
  description: "List the events that a consumer group has given up on.",
  parameters: {
    ...groupInput,
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
  call: (groups, { after, limit, name, namespace, pattern }) =>
    groups.deadLetters(name, { after, limit, ...givenFlags({ namespace, pattern }) }),
  json: (letters) => ({ deadLetters: letters }),
  text: (letters, { name }) =>
    letters.length === 0
      ? `Consumer group ${name} has no dead letters.`
      : table(
          ["POSITION", "EVENT", "NAME", "ATTEMPTS", "FAILED", "REASON"],
          letters.map((letter) => [
            String(letter.position),
            letter.event.id,
            letter.event.name,
            String(letter.attempts),
            letter.failedAt,
            oneLine(letter.reason ?? "", 80)
          ])
        )
})

const retry = Command.make(
  "retry",
  { ...groupInput, position: Argument.Int("position").pipe(Argument.optional) },
  Effect.fnUntraced(function* ({ name, namespace, pattern, position }) {
    const selection = givenFlags({ namespace, pattern })
    const count = yield* callService(ConsumerGroups, (groups) =>
      Option.match(position, {
        onNone: () => groups.retryDeadLetters(name, selection),
        onSome: (position) => Effect.as(groups.retryDeadLetter(name, position, selection), 1)
      })
    )
    yield* print({ retrying: count }, () =>
      count === 0
        ? `Consumer group ${name} has no dead letters.`
        : `${count === 1 ? "1 dead letter is" : `${count} dead letters are`} delivered again.`
    )
  })
).pipe(
  Command.withDescription("Deliver dead letters again: the one at the position, or all without a position."),
  Command.withShortDescription("Deliver dead letters again")
)

const remove = consumergroupsCommand("delete", {
  description:
    "Delete a consumer group with its deliveries. The subscriptions of its members end with an error.",
  parameters: groupInput,
  call: (groups, { name, namespace, pattern }) => groups.delete(name, givenFlags({ namespace, pattern })),
  json: (_, { name }) => ({ deleted: name }),
  text: (_, { name }) => `Consumer group ${name} is deleted.`
}).pipe(Command.withShortDescription("Delete a consumer group"))

const detailsOf = (group: ConsumerGroup): string => {
  const { maxBytes } = group.buffer
  const facts = fields({
    group: oneLine(group.name),
    namespace: oneLine(group.namespace),
    pattern: group.pattern,
    filter: group.filter === undefined ? undefined : oneLine(group.filter),
    status: group.status,
    why: oneLine(group.message),
    position: String(group.position),
    lag: String(group.lag),
    "in flight": String(group.inFlight),
    retrying: group.nextRetryAt === undefined ? "0" : `${group.retrying}, next at ${group.nextRetryAt}`,
    "given up": String(group.givenUp),
    "dead letters": String(group.deadLetters),
    "ack mode": group.ackMode,
    backpressure: maxBytes === undefined ? group.backpressure : `${group.backpressure}, ${maxBytes} bytes`,
    "max in flight": `${group.maxInflight} per member`,
    redeliveries: `${group.maxRedeliveries}, the first after ${showMs(group.redeliverDelayMs)}`,
    metadata: group.metadata === undefined ? undefined : jsonLine(group.metadata, 1000),
    created: group.createdAt,
    used: group.usedAt,
    expires: group.expiresAt,
    members: String(group.memberCount)
  })
  return group.members.length === 0
    ? facts
    : `${facts}\n\n${table(
        ["MEMBER", "ACK MODE", "IN FLIGHT", "KEEPS UP", "JOINED"],
        group.members.map((member) => [
          member.id,
          member.ackMode,
          String(member.inFlight),
          member.isSlow ? "no" : "yes",
          member.joinedAt
        ])
      )}`
}

export const groups = Command.make("groups").pipe(
  Command.withAlias("group"),
  Command.withDescription("Show consumer groups, and pause, resume and delete them."),
  Command.withShortDescription("Show and control consumer groups"),
  Command.withSubcommands([list, get, pause, resume, deadLetters, retry, remove])
)
