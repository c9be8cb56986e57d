/** `ironflow topics` lists topics, and `ironflow publish` publishes a message to one. */
import * as Effect from "effect/Effect"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import { readData } from "./Emit.ts"
import { oneLine, print, table } from "./Output.ts"
import { callServer } from "./ServerCalls.ts"

export const topics = Command.make(
  "topics",
  {},
  Effect.fnUntraced(function* () {
    const topics = yield* callServer((client) => client.listTopics())
    yield* print({ topics }, () =>
      topics.length === 0
        ? "There are no topics."
        : table(
            ["TOPIC", "MESSAGES", "CONSUMERS", "LAST MESSAGE"],
            topics.map((topic) => [
              oneLine(topic.name),
              String(topic.messageCount),
              String(topic.consumerCount),
              topic.lastMessageAt ?? ""
            ])
          )
    )
  })
).pipe(
  Command.withAlias("topic"),
  Command.withDescription("List the topics, with their numbers of messages and consumers."),
  Command.withShortDescription("List topics")
)

export const publish = Command.make(
  "publish",
  {
    topic: Argument.String("topic").pipe(Argument.withDescription("The topic, such as notifications")),
    data: Argument.String("data").pipe(
      Argument.withDescription("The message as JSON, or - to read it from standard input; {} when left out"),
      Argument.withDefault("{}")
    )
  },
  Effect.fnUntraced(function* (input) {
    const data = yield* readData(input.data)
    const result = yield* callServer((client) => client.publish(input.topic, data))
    yield* print(result, () => `Published ${result.eventId} to ${input.topic}.`)
  })
).pipe(
  Command.withDescription("Publish a message to a topic. Messages start no functions."),
  Command.withShortDescription("Publish a message"),
  Command.withExamples([{ command: `ironflow publish notifications '{"userId":"123"}'` }])
)
