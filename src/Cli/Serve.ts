/** `ironflow serve`: runs an engine for clients and workers in other processes. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { checked } from "../CheckAsEffect.ts"
import { DEFAULT_PORT } from "../Constants.ts"
import type { RetentionOptions } from "../Engine/Retention.ts"
import { formatExactDuration, positiveDuration } from "../Duration.ts"
import { ValidationError } from "../Errors.ts"
import { nextSignal } from "./Process.ts"
import { show } from "../Show.ts"
import { databaseFlags, databaseOf } from "./Database.ts"
import { hookFlags, hooksOf } from "./HookFlags.ts"
import { ironflow } from "./Ironflow.ts"
import { logChoice, logFlags } from "./LogOutput.ts"
import { textFlag } from "./TextFlag.ts"

export const port = Flag.Int("port").pipe(
  Flag.withMetavar("N"),
  Flag.withDescription(`The port to listen on, ${DEFAULT_PORT} by default; 0 for any that is free`),
  Flag.withDefault(DEFAULT_PORT)
)

/** The console flags of commands that start a server. */
export const consoleFlags = {
  noConsole: Flag.Boolean("no-console").pipe(
    Flag.withDescription("Do not serve the pages under /console/"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  ),
  consoleBase: textFlag("console-base").pipe(
    Flag.withMetavar("PATH"),
    Flag.withDescription(
      "The path under which a proxy serves the engine: with /ironflow the console is at /ironflow/console/"
    ),
    Flag.optional
  )
}

/**
 * Where the console is, for people: its URL, or only its path when it is behind a proxy, since the address of the proxy
 * is not known.
 */
export const consoleAddress = (url: string): string =>
  url.startsWith("/") ? `at the address of your proxy, followed by ${url}` : url

/** The console option from the flags. */
export const consoleOf = (flags: {
  readonly noConsole: boolean
  readonly consoleBase: Option.Option<string>
}): boolean | { readonly base: string } =>
  !flags.noConsole && Option.isSome(flags.consoleBase) ? { base: flags.consoleBase.value } : !flags.noConsole

const readMode = (text: Option.Option<string>): Effect.Effect<number | undefined, ValidationError> =>
  Effect.suspend(() => {
    if (Option.isNone(text)) return Effect.undefined
    if (/^0?[0-7]{3}$/.test(text.value)) return Effect.succeed(Number.parseInt(text.value, 8))
    return Effect.fail(
      new ValidationError(
        `${show(text.value)} is not a file mode: --file-mode takes three octal digits, such as 640`
      )
    )
  })

/**
 * Makes the engine report that it is not ready, and waits before the engine stops, so that load balancers can
 * send calls elsewhere. The engine still answers calls meanwhile. A signal ends the wait.
 */
const waitForDrain = (ms: number, begin: Effect.Effect<void>): Effect.Effect<void> =>
  begin.pipe(
    Effect.andThen(
      Console.error(
        `The engine answers for ${formatExactDuration(ms)} more, and reports that it is not ready. Another Ctrl-C or SIGTERM stops the engine at once.`
      )
    ),
    Effect.andThen(Effect.raceFirst(Effect.sleep(ms), nextSignal))
  )

export const serve = Command.make(
  "serve",
  {
    port,
    host: textFlag("host").pipe(
      Flag.withMetavar("HOST"),
      Flag.withDescription("The address to listen on; 127.0.0.1 by default"),
      Flag.withDefault("127.0.0.1")
    ),
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("The database file, created when it does not exist; ironflow.db by default"),
      Flag.optional
    ),
    ...databaseFlags,
    databasePoolSize: Flag.Int("database-pool-size").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription(
        "Maximum number of connections to Postgres for reads and writes; 10 by default, at least 2. The engine takes one more for notifications"
      ),
      Flag.optional
    ),
    check: Flag.Boolean("check").pipe(
      Flag.withDescription("Read the whole database first, and do not start when something in it is damaged"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    noAudit: Flag.Boolean("no-audit").pipe(
      Flag.withDescription("Turn off the background check that the database keeps the guarantees"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    insecure: Flag.Boolean("insecure").pipe(
      Flag.withDescription(
        "Allow --host to be any address although there are no API keys: everybody who reaches the port may then do everything"
      ),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    allowPrivateEndpoints: Flag.Boolean("allow-private-endpoints").pipe(
      Flag.withDescription("Call push endpoints and hooks on loopback and in private networks too"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    ...hookFlags,
    leaseTerm: textFlag("lease-term").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription(
        "How long a worker may be silent before its runs go to other workers; 15s by default"
      ),
      Flag.withDefault("15s")
    ),
    drain: textFlag("drain").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription(
        "How long the engine still answers after a signal, while it reports that it is not ready; 0 by default"
      ),
      Flag.optional
    ),
    keepRuns: textFlag("keep-runs").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription(
        "How long runs are kept after they have ended: a time, or forever; 30d by default"
      ),
      Flag.optional
    ),
    keepEvents: textFlag("keep-events").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription(
        "How long to keep events that are in no entity stream and that nothing needs any more; forever by default"
      ),
      Flag.optional
    ),
    maxEventsSize: textFlag("max-events-size").pipe(
      Flag.withMetavar("SIZE"),
      Flag.withDescription(
        "How much data to keep of events that are in no entity stream; the oldest events are deleted first. No limit by default"
      ),
      Flag.optional
    ),
    keepMessages: textFlag("keep-messages").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription("How long messages of topics are kept: a time, or forever; 30d by default"),
      Flag.optional
    ),
    maxTopicSize: textFlag("max-topic-size").pipe(
      Flag.withMetavar("SIZE"),
      Flag.withDescription(
        "How much data each topic keeps; the oldest messages are deleted first. 256MiB by default"
      ),
      Flag.optional
    ),
    corsOrigins: textFlag("cors-origin").pipe(
      Flag.withMetavar("ORIGIN"),
      Flag.withDescription(
        "Another origin whose pages may call the engine, such as https://shop.example.com; may be repeated"
      ),
      Flag.atLeast(0)
    ),
    allowedHosts: textFlag("allowed-host").pipe(
      Flag.withMetavar("NAME"),
      Flag.withDescription(
        "A host name under which browsers reach the engine, besides localhost and IP addresses; may be repeated"
      ),
      Flag.atLeast(0)
    ),
    ...consoleFlags,
    fileMode: textFlag("file-mode").pipe(
      Flag.withMetavar("MODE"),
      Flag.withDescription("The mode of the database file when it is created, in octal; 0600 by default"),
      Flag.optional
    ),
    ...logFlags
  },
  Effect.fnUntraced(function* ({
    consoleBase,
    data,
    databasePoolSize,
    databaseSchema,
    databaseUrl,
    drain,
    fileMode,
    hook,
    hookFunction,
    hookOn,
    hookSecret,
    keepEvents,
    keepMessages,
    keepRuns,
    logFormat,
    logLevel,
    maxEventsSize,
    maxTopicSize,
    noConsole,
    ...options
  }) {
    const { json } = yield* ironflow
    const mode = yield* readMode(fileMode)
    const postgres = yield* databaseOf({ data, databaseSchema, databaseUrl })
    if (postgres === undefined && Option.isSome(databasePoolSize)) {
      return yield* Effect.fail(
        new ValidationError(
          "--database-pool-size is about connections to Postgres: give --database-url too, or set IRONFLOW_DATABASE_URL"
        )
      )
    }
    const database =
      postgres === undefined || Option.isNone(databasePoolSize)
        ? postgres
        : { ...postgres, poolSize: databasePoolSize.value }
    const keep: RetentionOptions = {
      ...Option.match(keepRuns, { onNone: () => ({}), onSome: (keepRuns) => ({ keepRuns }) }),
      ...Option.match(keepEvents, { onNone: () => ({}), onSome: (keepEvents) => ({ keepEvents }) }),
      ...Option.match(maxEventsSize, { onNone: () => ({}), onSome: (maxEventBytes) => ({ maxEventBytes }) }),
      ...Option.match(keepMessages, { onNone: () => ({}), onSome: (keepMessages) => ({ keepMessages }) }),
      ...Option.match(maxTopicSize, { onNone: () => ({}), onSome: (maxTopicBytes) => ({ maxTopicBytes }) })
    }
    const drainMs = yield* checked(() =>
      Option.match(drain, { onNone: () => 0, onSome: (text) => positiveDuration(text, "--drain") })
    )
    const hooks = yield* hooksOf({ hook, hookFunction, hookOn, hookSecret })
    const input = {
      ...options,
      hooks,
      console: consoleOf({ consoleBase, noConsole }),
      keep,
      logs: logChoice({ logFormat, logLevel }),
      data: Option.getOrElse(data, () => "ironflow.db"),
      ...(database === undefined ? {} : { database }),
      ...(mode === undefined ? {} : { fileMode: mode })
    }
    const databaseText = database === undefined ? input.data : "Postgres"
    const { withLocalEngine } = yield* Effect.promise(() => import("./LocalEngine.ts"))
    yield* withLocalEngine(input, ({ engine, server }) =>
      Effect.andThen(
        Console.log(
          json
            ? JSON.stringify({
                url: server.url,
                data: databaseText,
                pid: process.pid,
                ...(server.consoleUrl === undefined ? {} : { console: server.consoleUrl }),
                keysRequired: engine.access.needsKey
              })
            : `Ironflow listens at ${server.url}, data in ${databaseText}. Ctrl-C stops it.\n` +
                (server.consoleUrl === undefined
                  ? ""
                  : `Its console: ${consoleAddress(server.consoleUrl)}\n`) +
                (engine.access.needsKey
                  ? "Every call needs an API key."
                  : "There are no API keys: the engine answers everybody who can reach it. `ironflow apikeys create` makes a key.")
        ),
        drainMs === 0
          ? Effect.never
          : Effect.onInterrupt(Effect.never, () => waitForDrain(drainMs, server.drain))
      )
    )
  })
).pipe(
  Command.withDescription(
    "Run the engine for clients and workers in other processes. Secrets need IRONFLOW_MASTER_KEY: 32 bytes in base64 or hex. " +
      "Requests to push endpoints are signed with IRONFLOW_SIGNING_KEY, and requests to hooks with IRONFLOW_HOOK_SECRET."
  ),
  Command.withShortDescription("Run the engine"),
  Command.withExamples([
    { command: "ironflow serve --port 9123 --data /var/lib/ironflow/ironflow.db" },
    { command: "ironflow serve --database-url postgres://ironflow@db.internal:5432/ironflow" },
    { command: "ironflow serve --hook https://alarms.example.com/ironflow --hook-on run.failed" }
  ])
)
