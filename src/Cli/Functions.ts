/** `ironflow functions`: what the server knows to run. */
import * as Effect from "effect/Effect"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import { Client, type FunctionInfo } from "../Client/Client.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import * as endpoints from "../Protocol/Push.ts"
import { print, table } from "./Output.ts"
import { send } from "./Server.ts"
import { commandsOf } from "./Calling.ts"

const clientCommand = commandsOf(Client)

const list = clientCommand("list", {
  about: "List the functions that workers have registered.",
  call: (client) => client.listFunctions(),
  json: (functions) => ({ functions }),
  text: (functions) =>
    functions.length === 0
      ? "There are no functions yet: start a worker, and its functions are registered."
      : table(
          ["FUNCTION", "VERSION", "TRIGGERS", "UPDATED"],
          functions.map((fn) => [fn.id, String(fn.version), triggersOf(fn), fn.updatedAt])
        )
})

const remove = clientCommand("delete", {
  about:
    "Forget a function that nobody has in the code any more: events and schedules start it no more. Its runs stay. A worker that has it brings it back.",
  takes: { functionId: Argument.String("function-id") },
  call: (client, { functionId }) => client.deleteFunction(functionId),
  json: (_, { functionId }) => ({ functionId }),
  text: (_, { functionId }) => `Function ${functionId} is deleted: nothing starts it any more. Its runs stay.`
}).pipe(Command.withExamples([{ command: "ironflow functions delete process-order" }]))

const url = Argument.String("url")

const register = Command.make(
  "register",
  { url },
  Effect.fnUntraced(function* ({ url }) {
    const answer = yield* send({
      method: "POST",
      path: endpoints.registerPushEndpoint.path,
      body: JSON.stringify({ url }),
      what: `Registering ${url}`
    })
    const body = safeJsonParse(answer.text)
    const ids = (isObject(body) && Array.isArray(body.functions) ? body.functions : [])
      .filter(isObject)
      .map(({ id }) => String(id))
    yield* print({ url, functions: ids }, () =>
      ids.length === 0
        ? `The handler at ${url} has no functions.`
        : `Registered from ${url}, where their turns are pushed from now on: ${ids.join(", ")}.`
    )
  })
).pipe(
  Command.withDescription(
    "Ask the push handler at a URL for its functions and register them. The server calls it, with the signing key of the server."
  ),
  Command.withExamples([{ command: "ironflow functions register https://shop.example.com/api/ironflow" }])
)

const unregister = Command.make(
  "unregister",
  { url },
  Effect.fnUntraced(function* ({ url }) {
    yield* send({
      method: "DELETE",
      path: `${endpoints.removePushEndpoint.path}?url=${encodeURIComponent(url)}`,
      what: `Removing ${url}`
    })
    yield* print({ url }, () => `Nothing is pushed to ${url} any more.`)
  })
).pipe(
  Command.withDescription("Call the push handler at a URL no more. Its functions stay, and their runs wait.")
)

const listEndpoints = Command.make(
  "endpoints",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* send({
      method: "GET",
      path: endpoints.listPushEndpoints.path,
      what: "Listing the endpoints"
    })
    const body = safeJsonParse(answer.text)
    const found = isObject(body) && Array.isArray(body.endpoints) ? body.endpoints.filter(isObject) : []
    yield* print({ endpoints: found }, () =>
      found.length === 0
        ? "There are no push endpoints."
        : table(
            ["ENDPOINT", "FUNCTIONS", "STATE"],
            found.map(({ available, functionIds, problem, url }) => [
              String(url),
              Array.isArray(functionIds) ? functionIds.join(", ") : "",
              available === true ? "available" : String(problem ?? "")
            ])
          )
    )
  })
).pipe(Command.withDescription("List the push handlers that the server calls."))

const triggersOf = ({ triggers }: FunctionInfo): string =>
  triggers
    .map(({ event, expression, cron, overlap, timezone }) =>
      [
        event,
        cron === undefined ? undefined : `cron ${cron}`,
        timezone,
        overlap === undefined ? undefined : `overlap ${overlap}`,
        expression === undefined ? undefined : `if ${expression}`
      ]
        .filter((part) => part !== undefined)
        .join(" ")
    )
    .join(", ") || "invoked only"

export const functions = Command.make("functions").pipe(
  Command.withAlias("function"),
  Command.withDescription(
    "See and delete the functions that are registered, and register those of push handlers."
  ),
  Command.withShortDescription("See, register and delete functions"),
  Command.withSubcommands([list, remove, register, unregister, listEndpoints])
)
