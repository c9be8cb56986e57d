/** `ironflow erase`: counts the data of one person, asks for confirmation, and erases the data. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import { type BulkOperation, Client, type EraseKeys, type EraseTarget } from "../Client/Client.ts"
import { bulkIds } from "../Limits.ts"
import {
  bulkFlags,
  dryRunResultOf,
  failUnlessAllDone,
  waitWithProgress,
  noneDoneError,
  resultOf,
  stoppedError
} from "./Bulk.ts"
import { CommandError } from "./CommandError.ts"
import { ironflow } from "./Ironflow.ts"
import { print } from "./Output.ts"
import { timeOf } from "./RunList.ts"
import { provideServer } from "./ServerCalls.ts"
import { textFlag } from "./TextFlag.ts"

const optionalTextFlag = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)
const repeatedTextFlag = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(`${description}; may be repeated`),
    Flag.between(0, bulkIds)
  )
const booleanFlag = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withoutNegation, Flag.withDefault(false))

const flags = {
  where: optionalTextFlag(
    "where",
    "CEL",
    `Events and messages for which this expression is true, as in 'event.data.email == "jane@example.com"'; every stored event and message is searched`
  ),
  event: optionalTextFlag(
    "event",
    "NAME",
    "Events and topics with this name, or with names that match this pattern"
  ),
  entity: optionalTextFlag("entity", "ID", "Events of this entity"),
  entityType: optionalTextFlag("entity-type", "TYPE", "Events of entities of this type"),
  idempotencyKey: optionalTextFlag("idempotency-key", "KEY", "Events and messages with this idempotency key"),
  since: optionalTextFlag(
    "since",
    "TIME",
    "Events and messages that were stored at this time or later: how long ago, such as 7d, or a date such as 2026-01-31"
  ),
  until: optionalTextFlag("until", "TIME", "Events and messages that were stored before this time"),
  run: repeatedTextFlag("run", "ID", "This run, and the event that started it"),
  runWhere: optionalTextFlag(
    "run-where",
    "CEL",
    "Runs for which this expression over event, output and error is true"
  ),
  attribute: textFlag("attribute").pipe(
    Flag.withMetavar("PATH=VALUE"),
    Flag.withDescription("Runs with this value at a path that their function names in searchBy"),
    Flag.between(0, 10)
  ),
  stream: repeatedTextFlag("stream", "ENTITY", "The stream of this entity, with its snapshots"),
  key: repeatedTextFlag(
    "key",
    "BUCKET/KEY",
    "This key of a bucket; with * at the end, all keys that begin with it"
  ),
  config: repeatedTextFlag("config", "NAME", "This configuration")
}

const settings = {
  cancel: booleanFlag(
    "cancel",
    "First cancel those of the matching runs that are unfinished; without this flag, nothing is erased while one of the matching runs is unfinished"
  ),
  compact: booleanFlag(
    "compact",
    "Rewrite the SQLite file afterwards even if it is large; all calls wait meanwhile. Small files are always rewritten"
  )
}

type TargetFlagValues = {
  readonly [F in keyof typeof flags]: (typeof flags)[F] extends Flag.Flag<infer A> ? A : never
}

const usageError = (message: string) => new CommandError(message, { code: "USAGE" })

const targetOf = (values: TargetFlagValues) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const memberOf = (name: string, given: Option.Option<string>) =>
      Option.isNone(given) ? {} : { [name]: given.value }
    const timeMember = (name: "since" | "until") =>
      Option.isNone(values[name])
        ? Effect.succeed({})
        : Effect.map(timeOf(name, values[name].value, now), (at) => ({ [name]: at }))
    const events = {
      ...memberOf("where", values.where),
      ...memberOf("name", values.event),
      ...memberOf("entityId", values.entity),
      ...memberOf("entityType", values.entityType),
      ...memberOf("idempotencyKey", values.idempotencyKey),
      ...(yield* timeMember("since")),
      ...(yield* timeMember("until"))
    }
    const attributes: Array<readonly [string, string]> = []
    for (const flagText of values.attribute) {
      const at = flagText.indexOf("=")
      if (at < 1)
        return yield* usageError(`--attribute takes a path and its value, as in event.data.customerId=c-17`)
      attributes.push([flagText.slice(0, at), flagText.slice(at + 1)])
    }
    const runs = {
      ...memberOf("where", values.runWhere),
      ...(attributes.length === 0 ? {} : { attributes: Object.fromEntries(attributes) }),
      ...(values.run.length === 0 ? {} : { ids: values.run })
    }
    const keys: Array<EraseKeys> = []
    for (const flagText of values.key) {
      const at = flagText.indexOf("/")
      const [bucket, key] = [flagText.slice(0, at), flagText.slice(at + 1)]
      if (at < 1 || key === "")
        return yield* usageError(`--key takes a bucket and a key, as in profiles/c-17 or profiles/c-17.*`)
      if (key === "*") {
        return yield* usageError(
          `--key ${flagText} would erase the whole bucket: give the beginning of the keys, or delete the bucket with \`ironflow kv delete-bucket\``
        )
      }
      keys.push(key.endsWith("*") ? { bucket, prefix: key.slice(0, -1) } : { bucket, key })
    }
    const target: EraseTarget = {
      ...(Object.keys(events).length === 0 ? {} : { events }),
      ...(Object.keys(runs).length === 0 ? {} : { runs }),
      ...(values.stream.length === 0 ? {} : { streams: values.stream }),
      ...(keys.length === 0 ? {} : { keys }),
      ...(values.config.length === 0 ? {} : { configs: values.config })
    }
    return target
  })

/**
 * Whether nothing is left to erase. `false` also when runs were skipped for another reason, such as that they are
 * unfinished: the command then starts the erasure all the same, because the server's error says what to do.
 */
const isNothingLeft = ({ done, skipped }: BulkOperation): boolean =>
  done === 0 && Object.keys(skipped).every((why) => why === "not found" || why === "erased already")

export const erase = Command.make(
  "erase",
  { ...flags, ...settings, ...bulkFlags },
  Effect.fnUntraced(function* ({ cancel, compact, dryRun, yes, ...values }) {
    const target = yield* targetOf(values)
    const hasTarget = Object.keys(target).length > 0
    if (!hasTarget && !compact) {
      return yield* usageError(
        `Say what to erase, as in --where 'event.data.email == "jane@example.com"', --run, --stream, --key or --config: without any of these, everything would be erased`
      )
    }
    yield* provideServer(
      Effect.gen(function* () {
        const client = yield* Client
        const { json } = yield* ironflow
        if (!dryRun && !yes && !(process.stdin.isTTY && !json)) {
          return yield* usageError(
            "This command cannot ask whether to erase the data (there is no terminal, or --json was given): add --yes, or count the data first with --dry-run"
          )
        }
        if (hasTarget) {
          const counts = yield* waitWithProgress(
            client,
            yield* client.erase(target, { cancel, dryRun: true }),
            "looked at"
          )
          if (counts.status !== "completed") return yield* stoppedError(counts)
          if (dryRun || isNothingLeft(counts)) {
            yield* print(counts, () => dryRunResultOf(counts))
            return dryRun ? undefined : yield* noneDoneError("erase", counts)
          }
          if (!yes) {
            yield* Console.error(dryRunResultOf(counts))
            const isConfirmed = yield* Prompt.run(
              Prompt.Confirm({ message: "Erase this data? This cannot be undone.", initial: false })
            )
            if (!isConfirmed) return yield* new CommandError("Nothing was changed", { code: "CANCELLED" })
          }
        } else if (dryRun)
          return yield* usageError(
            "--dry-run counts what would be erased, and --compact alone erases nothing: leave --dry-run out"
          )
        const started = yield* client.erase(target, { cancel, compact })
        if (!json) {
          yield* Console.error(
            `The operation ${started.id} continues even without this command; \`ironflow bulk cancel ${started.id}\` ends it.`
          )
        }
        const endedOperation = yield* waitWithProgress(client, started, "erased")
        yield* print(endedOperation, () => resultOf(endedOperation))
        if (hasTarget) yield* failUnlessAllDone(endedOperation)
        else if (endedOperation.status !== "completed") yield* stoppedError(endedOperation)
      })
    )
  })
).pipe(
  Command.withDescription(
    "Erase what belongs to one person: the data of the events, messages and streams that match, the data of the runs that these events started or that received them, and the keys and configurations that you name. Ids, times and statuses stay; backups keep the data. The command counts the data first, and asks before it erases unless --yes is given."
  ),
  Command.withShortDescription("Erase what belongs to one person"),
  Command.withExamples([
    { command: `ironflow erase --where 'event.data.email == "jane@example.com"' --dry-run` },
    {
      command: `ironflow erase --where 'event.data.customerId == "c-17"' --stream customer-c-17 --key 'profiles/c-17*' --cancel --yes`
    }
  ])
)
