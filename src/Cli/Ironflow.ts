/** The `ironflow` command without its subcommands: the flags that all of them share. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { ServerOptions } from "../Client/HttpOptions.ts"
import { textFlag } from "./TextFlag.ts"

export const ironflow = Command.make("ironflow").pipe(
  Command.withSharedFlags({
    serverUrl: textFlag("server-url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription(
        "The server to talk to; by default IRONFLOW_SERVER_URL, else http://localhost:9123"
      ),
      Flag.optional
    ),
    apiKey: Flag.Redacted("api-key").pipe(
      Flag.filter(
        (key) => Redacted.value(key).trim() !== "",
        () => "a key that is not empty"
      ),
      Flag.withMetavar("KEY"),
      Flag.withDescription(
        "The API key. Other users of the machine can see command lines: prefer IRONFLOW_API_KEY"
      ),
      Flag.optional
    ),
    environment: textFlag("environment").pipe(
      Flag.withMetavar("NAME"),
      Flag.withDescription('The environment to work in; by default IRONFLOW_ENV, else "default"'),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print JSON for programs, errors included"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  }),
  Command.withDescription("Run, start and inspect durable functions.")
)

/** The server that the flags name. A flag that was not given is `undefined`: the client then reads the environment variable. */
export const serverOptions = Effect.map(ironflow, ({ serverUrl, apiKey, environment }): ServerOptions => ({
  serverUrl: Option.getOrUndefined(serverUrl),
  apiKey: Option.getOrUndefined(Option.map(apiKey, Redacted.value)),
  environment: Option.getOrUndefined(environment)
}))
