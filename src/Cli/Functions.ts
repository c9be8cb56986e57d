/** `ironflow functions`: what the server knows to run. */
import * as Effect from "effect/Effect"
import * as Command from "effect/cli/Command"
import type { FunctionInfo } from "../Client/Client.ts"
import { print, table } from "./Output.ts"
import { ask } from "./Server.ts"

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const functions = yield* ask((client) => client.listFunctions())
    yield* print({ functions }, () =>
      functions.length === 0
        ? "There are no functions yet: start a worker, and its functions are registered."
        : table(
            ["FUNCTION", "VERSION", "TRIGGERS", "UPDATED"],
            functions.map((fn) => [fn.id, String(fn.version), triggersOf(fn), fn.updatedAt])
          )
    )
  })
).pipe(Command.withDescription("List the functions that workers have registered."))

const triggersOf = ({ triggers }: FunctionInfo): string =>
  triggers
    .map(({ event, expression, cron }) =>
      [
        event,
        cron === undefined ? undefined : `cron ${cron}`,
        expression === undefined ? undefined : `if ${expression}`
      ]
        .filter((part) => part !== undefined)
        .join(" ")
    )
    .join(", ") || "invoked only"

export const functions = Command.make("functions").pipe(
  Command.withDescription("See the functions that workers have registered."),
  Command.withShortDescription("See functions"),
  Command.withSubcommands([list])
)
