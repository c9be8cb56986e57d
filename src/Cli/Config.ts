/** `ironflow config`: shows and changes configurations. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Config } from "../Client/Config.ts"
import { validated } from "../CheckAsEffect.ts"
import { CommandError } from "./CommandError.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { checkShape } from "../JsonLimits.ts"
import { ironflow } from "./Ironflow.ts"
import { oneLine, print, jsonLine, table } from "./Output.ts"
import { provideServer } from "./ServerCalls.ts"
import { readStdin } from "./Stdin.ts"
import { commandsOf } from "./OneCallCommands.ts"

const configCommand = commandsOf(Config)

const name = Argument.String("name")
const data = Argument.String("data").pipe(
  Argument.withDescription("A JSON object; read from standard input when left out"),
  Argument.optional
)

const readData = (argument: Option.Option<string>) =>
  Effect.flatMap(Option.isSome(argument) ? Effect.succeed(argument.value) : readStdin, (text) =>
    Effect.flatMap(
      validated(() => safeJsonParse(checkShape("the data", text))),
      (value) =>
        isObject(value)
          ? Effect.succeed(value)
          : Effect.fail(
              new CommandError(
                `The data must be a JSON object, such as '{"theme":"dark"}', got ${text.trim() === "" ? "nothing" : oneLine(text, 64)}`,
                { code: "USAGE" }
              )
            )
    )
  )

const set = Command.make(
  "set",
  { name, data },
  Effect.fnUntraced(function* ({ name, data }) {
    const value = yield* readData(data)
    const result = yield* provideServer(Effect.flatMap(Config, (config) => config.set(name, value)))
    yield* print(result, () => `Configuration ${oneLine(name)} is at revision ${result.revision}.`)
  })
).pipe(
  Command.withDescription("Create or replace a configuration."),
  Command.withExamples([{ command: `ironflow config set app-settings '{"theme":"dark"}'` }])
)

const patch = Command.make(
  "patch",
  { name, data },
  Effect.fnUntraced(function* ({ name, data }) {
    const value = yield* readData(data)
    const result = yield* provideServer(Effect.flatMap(Config, (config) => config.patch(name, value)))
    yield* print(result, () => `Configuration ${oneLine(name)} is at revision ${result.revision}.`)
  })
).pipe(Command.withDescription("Replace some members of a configuration, and keep the others."))

const get = configCommand("get", {
  description: "Show a configuration.",
  parameters: { name },
  call: (config, { name }) => config.get(name),
  text: (config) => JSON.stringify(config.data, null, 2)
})

const list = configCommand("list", {
  description: "List the configurations.",
  call: (config) => config.list(),
  json: (configs) => ({ configs }),
  text: (configs) =>
    configs.length === 0
      ? "There are no configurations."
      : table(
          ["NAME", "REVISION", "UPDATED", "DATA"],
          configs.map((config) => [
            oneLine(config.name),
            String(config.revision),
            config.updatedAt,
            jsonLine(config.data)
          ])
        )
})

const remove = configCommand("delete", {
  description: "Delete a configuration.",
  parameters: { name },
  call: (config, { name }) => config.delete(name),
  json: (_, { name }) => ({ name }),
  text: (_, { name }) => `Configuration ${oneLine(name)} is deleted.`
})

const watch = Command.make(
  "watch",
  {
    name,
    from: Flag.Int("from").pipe(
      Flag.withMetavar("REVISION"),
      Flag.withDescription("Begin after this revision; 0 begins with the current data"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ from, name }) {
    const { json } = yield* ironflow
    yield* provideServer(
      Effect.flatMap(Config, (config) =>
        Stream.runForEach(
          config.watch(name, Option.isNone(from) ? {} : { fromRevision: from.value }),
          (event) =>
            Console.log(
              json
                ? JSON.stringify(event)
                : `${event.revision}  ${event.data === undefined ? "deleted" : jsonLine(event.data, 400)}`
            )
        )
      )
    )
  })
).pipe(
  Command.withDescription("Print the changes of a configuration as they happen. Ctrl-C stops the command.")
)

export const config = Command.make("config").pipe(
  Command.withDescription("Show and change configurations, which programs share."),
  Command.withShortDescription("Manage configurations"),
  Command.withSubcommands([set, get, patch, list, remove, watch])
)
