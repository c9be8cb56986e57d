/**
 * `ironflow apikeys`: manages API keys. While no engine has the database file open, `create` itself writes the key into
 * the file. It needs no API key then, so it can create the first one.
 */
import { existsSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { ApiKeys } from "../Client/ApiKeys.ts"
import type { APIKey, APIKeyWithSecret, CreateAPIKeyInput } from "../Protocol/Access.ts"
import { ENV_VARS } from "../Constants.ts"
import { readEnvironmentVariable } from "../EnvironmentVariables.ts"
import { ironflow } from "./Ironflow.ts"
import { print, table } from "./Output.ts"
import { callService } from "./ServerCalls.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const apikeysCommand = commandsOf(ApiKeys)

const id = Argument.String("id")

const create = Command.make(
  "create",
  {
    name: Argument.String("name"),
    role: textFlag("role").pipe(
      Flag.withMetavar("ID"),
      Flag.withDescription(
        "A role of the key, such as role_worker; may be repeated. By default role_developer, and for the first key role_admin"
      ),
      Flag.atLeast(0)
    ),
    allEnvironments: Flag.Boolean("all-environments").pipe(
      Flag.withDescription("The key works in every environment, as the first key does"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    expiresIn: textFlag("expires-in").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription('How long the key is valid, such as "90d"; it does not expire by default'),
      Flag.optional
    ),
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription(
        "Create the key in this database file, or through the server while an engine has the file open; ironflow.db by default, unless a server is named"
      ),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ name, role, allEnvironments, expiresIn, data }) {
    const { environment } = yield* ironflow
    const envId = allEnvironments ? "*" : Option.getOrUndefined(environment)
    const input: CreateAPIKeyInput = {
      name,
      ...(envId === undefined ? {} : { envId }),
      ...(role.length === 0 ? {} : { role_ids: role }),
      ...givenFlags({ expires_in: expiresIn })
    }
    const createThroughServer = callService(ApiKeys, (keys) => keys.create(input))
    const filename = yield* fileToUse(data)
    const key: APIKeyWithSecret =
      filename === undefined
        ? yield* createThroughServer
        : yield* Effect.catchIf(
            createInFile(filename, input),
            (error) => error.code === "STORE_LOCKED",
            // an engine has the file open
            () => createThroughServer
          )
    yield* print(key, () =>
      [
        `API key ${key.name} (${key.id}) for ${key.env_id === "*" ? "" : "environment "}${environmentOf(key)}, roles ${rolesOf(key)}.`,
        // only the first key gets all environments without --all-environments
        ...(key.env_id === "*" && !allEnvironments
          ? [
              "It is the first key: from now on every call needs a key, and this one may do everything in all environments.",
              "Workers that run without a key stop now. For each worker, create a key with --role role_worker, set IRONFLOW_API_KEY to it, and restart the worker."
            ]
          : []),
        "Store the key now, since it is not shown again:",
        "",
        key.secret
      ].join("\n")
    )
  })
).pipe(
  Command.withDescription(
    "Create an API key. While no engine has the database file open, the command creates the key in the file itself, for which it needs no key: this is how to create the first key."
  ),
  Command.withExamples([
    { command: "ironflow apikeys create admin" },
    { command: "ironflow apikeys create payments-worker --role role_worker --expires-in 90d" }
  ])
)

/**
 * The database file named by `--data`, or else `ironflow.db` in the working folder. Without `--data`, `undefined` when
 * a server was named, or when the working folder has no `ironflow.db`.
 */
const fileToUse = (data: Option.Option<string>) =>
  Effect.map(ironflow, ({ serverUrl }): string | undefined => {
    if (Option.isSome(data)) return data.value
    const isServerNamed =
      Option.isSome(serverUrl) || readEnvironmentVariable(ENV_VARS.SERVER_URL) !== undefined
    return !isServerNamed && existsSync("ironflow.db") ? "ironflow.db" : undefined
  })

const createInFile = (filename: string, input: CreateAPIKeyInput) =>
  Effect.flatMap(
    // imported here, so that commands that only talk to a server do not load the engine
    Effect.promise(() => import("./LocalApiKey.ts")),
    ({ createApiKey }) => createApiKey(filename, input)
  )

const list = apikeysCommand("list", {
  description: "List the API keys, without their secrets.",
  call: (keys) => keys.list(),
  json: (keys) => ({ keys }),
  text: (keys) =>
    keys.length === 0
      ? "There are no API keys: the engine answers everybody who reaches it. `ironflow apikeys create` creates one."
      : table(
          ["ID", "NAME", "KEY", "ENVIRONMENT", "ROLES", "LAST USED", "EXPIRES"],
          keys.map((key) => [
            key.id,
            key.name,
            key.key_prefix === "" ? "" : `${key.key_prefix}...`,
            environmentOf(key),
            rolesOf(key),
            key.last_used_at ?? "never",
            key.expires_at ?? "never"
          ])
        )
})

const rotate = apikeysCommand("rotate", {
  description: "Give an API key a new secret. The old secret stops working at once, or after --overlap.",
  parameters: {
    id,
    overlap: textFlag("overlap").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription('How long the old secret still works, such as "24h"; by default it stops at once'),
      Flag.optional
    )
  },
  call: (keys, { id, overlap }) => keys.rotate(id, givenFlags({ overlap })),
  text: (key) =>
    [
      `API key ${key.name} (${key.id}) has a new secret. Store it, since it is not shown again:`,
      "",
      key.secret,
      ...(key.previous_expires_at === undefined
        ? []
        : ["", `The old secret works until ${key.previous_expires_at}.`])
    ].join("\n")
}).pipe(Command.withExamples([{ command: "ironflow apikeys rotate key_1 --overlap 24h" }]))

const remove = apikeysCommand("delete", {
  description: "Delete a key, which stops working at once.",
  parameters: { id },
  call: (keys, { id }) => keys.delete(id),
  json: (_, { id }) => ({ id }),
  text: (_, { id }) => `API key ${id} is deleted and no longer works.`
})

const environmentOf = ({ env_id = "" }: APIKey): string =>
  env_id === "*" ? "all environments" : env_id.replace(/^env_/, "")

const rolesOf = ({ role_ids = [] }: APIKey): string => role_ids.join(", ") || "none"

export const apikeys = Command.make("apikeys").pipe(
  Command.withAlias("apikey"),
  Command.withDescription("Decide who may use the engine. As soon as there is a key, every call needs one."),
  Command.withShortDescription("Manage API keys"),
  Command.withSubcommands([create, list, rotate, remove])
)
