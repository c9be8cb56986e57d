/**
 * `ironflow secrets`: manages secrets, whose values only handlers receive. A value is read from standard
 * input, or from a hidden prompt on a terminal.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Prompt from "effect/cli/Prompt"
import { CommandError } from "./CommandError.ts"

import { isObject, safeJsonParse } from "../Json.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import * as secretCalls from "../Protocol/Secrets.ts"
import { print, table } from "./Output.ts"
import { sendRequest } from "./ServerCalls.ts"
import { readStdin } from "./Stdin.ts"

const name = Argument.String("name")

const set = Command.make(
  "set",
  { name },
  Effect.fnUntraced(function* ({ name }) {
    const value = yield* readValue(name)
    yield* sendRequest({
      method: "POST",
      path: secretCalls.setSecret.path,
      body: JSON.stringify({ name, value }),
      what: `Storing secret "${name}"`
    })
    yield* print({ name }, () => `Secret ${name} is stored.`)
  })
).pipe(
  Command.withDescription(
    "Store a secret, or replace the value of one. The command reads the value from standard input, or asks for it on a terminal."
  ),
  Command.withExamples([{ command: "ironflow secrets set STRIPE_KEY < key.txt" }])
)

/**
 * Reads the value, from a prompt on a terminal or from standard input. Removes the line break at the end of
 * standard input, since most commands and editors add one.
 */
const readValue = (name: string) =>
  process.stdin.isTTY
    ? Effect.map(Prompt.run(Prompt.Hidden({ message: `Value of ${name}` })), Redacted.value)
    : Effect.flatMap(readStdin, (text) => {
        const value = text.replace(/\r?\n$/, "")
        return value === ""
          ? Effect.fail(
              new CommandError(
                `There is no value for secret "${name}": write it to standard input, like \`ironflow secrets set ${name} < file\``,
                { code: "USAGE" }
              )
            )
          : Effect.succeed(value)
      })

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* sendRequest({
      method: "GET",
      path: secretCalls.listSecrets.path,
      what: "Listing the secrets"
    })
    const body = safeJsonParse(answer.text)
    const secrets = (Array.isArray(body) ? body : []).filter(isObject).map((secret) => ({
      name: String(secret.name),
      createdAt: String(secret.created_at ?? ""),
      updatedAt: String(secret.updated_at ?? "")
    }))
    yield* print({ secrets }, () =>
      secrets.length === 0
        ? "There are no secrets."
        : table(
            ["SECRET", "CREATED", "UPDATED"],
            secrets.map((secret) => [secret.name, secret.createdAt, secret.updatedAt])
          )
    )
  })
).pipe(Command.withDescription("List the names of the secrets. Their values are never shown."))

const remove = Command.make(
  "delete",
  { name },
  Effect.fnUntraced(function* ({ name }) {
    yield* sendRequest({
      method: "DELETE",
      path: pathOf(secretCalls.deleteSecret, { name }),
      what: `Deleting secret "${name}"`
    })
    yield* print({ name }, () => `Secret ${name} is deleted.`)
  })
).pipe(Command.withDescription("Delete a secret."))

export const secrets = Command.make("secrets").pipe(
  Command.withAlias("secret"),
  Command.withDescription("Store secrets: values that functions need and nobody else should see."),
  Command.withShortDescription("Manage secrets"),
  Command.withSubcommands([set, list, remove])
)
