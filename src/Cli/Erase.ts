/** `ironflow erase`: erases the data of one person, after counting it. */
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
  countOf,
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

const text = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)
const several = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(`${description}; may be repeated`),
    Flag.between(0, bulkIds)
  )
const yes = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withoutNegation, Flag.withDefault(false))

const flags = {
  where: text(
    "where",
    "CEL",
    `Events and messages for which this is true, as in 'event.data.email == "jane@example.com"'; searches all of them`
  ),
  event: text("event", "NAME", "Events, and messages of topics, of this name or pattern"),
  entity: text("entity", "ID", "Events of this entity"),
  entityType: text("entity-type", "TYPE", "Events of entities of this type"),
  idempotencyKey: text("idempotency-key", "KEY", "Events and messages with this idempotency key"),
  since: text(
    "since",
    "TIME",
    "Events and messages that were stored at this time or later: how long ago, such as 7d, or a date such as 2026-01-31"
  ),
  until: text("until", "TIME", "Events and messages that were stored before this time"),
  run: several("run", "ID", "This run, and the event that started it"),
  runWhere: text("run-where", "CEL", "Runs for which this is true, over event, output and error"),
  attribute: textFlag("attribute").pipe(
    Flag.withMetavar("PATH=VALUE"),
    Flag.withDescription("Runs with this value at a path that their function names in searchBy"),
    Flag.between(0, 10)
  ),
  stream: several("stream", "ENTITY", "The stream of this entity, with its snapshots"),
  key: several("key", "BUCKET/KEY", "This key of a bucket; with * at the end, all keys that begin with it"),
  config: several("config", "NAME", "This configuration")
}

const other = {
  cancel: yes(
    "cancel",
    "Cancel unfinished runs among them first; without this flag nothing is erased if there are any"
  ),
  compact: yes(
    "compact",
    "Rewrite the SQLite file afterwards even if it is large; all calls wait meanwhile. Small files are always rewritten"
  )
}

type Said = {
  readonly [F in keyof typeof flags]: (typeof flags)[F] extends Flag.Flag<infer A> ? A : never
}

const usage = (message: string) => new CommandError(message, { code: "USAGE" })

const targetOf = (said: Said) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const some = (name: string, given: Option.Option<string>) =>
      Option.isNone(given) ? {} : { [name]: given.value }
    const time = (name: "since" | "until") =>
      Option.isNone(said[name])
        ? Effect.succeed({})
        : Effect.map(timeOf(name, said[name].value, now), (at) => ({ [name]: at }))
    const events = {
      ...some("where", said.where),
      ...some("name", said.event),
      ...some("entityId", said.entity),
      ...some("entityType", said.entityType),
      ...some("idempotencyKey", said.idempotencyKey),
      ...(yield* time("since")),
      ...(yield* time("until"))
    }
    const attributes: Array<readonly [string, string]> = []
    for (const one of said.attribute) {
      const at = one.indexOf("=")
      if (at < 1)
        return yield* usage(`--attribute takes a path and its value, as in event.data.customerId=c-17`)
      attributes.push([one.slice(0, at), one.slice(at + 1)])
    }
    const runs = {
      ...some("where", said.runWhere),
      ...(attributes.length === 0 ? {} : { attributes: Object.fromEntries(attributes) }),
      ...(said.run.length === 0 ? {} : { ids: said.run })
    }
    const keys: Array<EraseKeys> = []
    for (const one of said.key) {
      const at = one.indexOf("/")
      const [bucket, key] = [one.slice(0, at), one.slice(at + 1)]
      if (at < 1 || key === "")
        return yield* usage(`--key takes a bucket and a key, as in profiles/c-17 or profiles/c-17.*`)
      if (key === "*") {
        return yield* usage(
          `--key ${one} would erase the whole bucket: give the beginning of the keys, or delete the bucket with \`ironflow kv delete-bucket\``
        )
      }
      keys.push(key.endsWith("*") ? { bucket, prefix: key.slice(0, -1) } : { bucket, key })
    }
    const target: EraseTarget = {
      ...(Object.keys(events).length === 0 ? {} : { events }),
      ...(Object.keys(runs).length === 0 ? {} : { runs }),
      ...(said.stream.length === 0 ? {} : { streams: said.stream }),
      ...(keys.length === 0 ? {} : { keys }),
      ...(said.config.length === 0 ? {} : { configs: said.config })
    }
    return target
  })

/**
 * Whether nothing is left to erase. An erasure that the server will refuse is started anyway: its error says
 * what to do.
 */
const isInVain = ({ done, skipped }: BulkOperation): boolean =>
  done === 0 && Object.keys(skipped).every((why) => why === "not found" || why === "erased already")

export const erase = Command.make(
  "erase",
  { ...flags, ...other, ...bulkFlags },
  Effect.fnUntraced(function* ({ cancel, compact, dryRun, yes, ...said }) {
    const target = yield* targetOf(said)
    const isNamed = Object.keys(target).length > 0
    if (!isNamed && !compact) {
      return yield* usage(
        `Say what to erase, as in --where 'event.data.email == "jane@example.com"', --run, --stream, --key or --config: without any of these, everything would be erased`
      )
    }
    yield* provideServer(
      Effect.gen(function* () {
        const client = yield* Client
        const { json } = yield* ironflow
        if (!dryRun && !yes && !(process.stdin.isTTY && !json)) {
          return yield* usage(
            "This command cannot ask whether to erase it (there is no terminal, or --json was given): add --yes, or count it first with --dry-run"
          )
        }
        if (isNamed) {
          const counts = yield* waitWithProgress(
            client,
            yield* client.erase(target, { cancel, dryRun: true }),
            "looked at"
          )
          if (counts.status !== "completed") return yield* stoppedError(counts)
          if (dryRun || isInVain(counts)) {
            yield* print(counts, () => countOf(counts))
            return dryRun ? undefined : yield* noneDoneError("erase", counts)
          }
          if (!yes) {
            yield* Console.error(countOf(counts))
            const isWanted = yield* Prompt.run(
              Prompt.Confirm({ message: "Erase it? It cannot be undone.", initial: false })
            )
            if (!isWanted) return yield* new CommandError("Nothing was changed", { code: "CANCELLED" })
          }
        } else if (dryRun)
          return yield* usage(
            "--dry-run counts what would be erased, and --compact alone erases nothing: leave --dry-run out"
          )
        const begun = yield* client.erase(target, { cancel, compact })
        if (!json) {
          yield* Console.error(
            `The operation ${begun.id} continues even without this command; \`ironflow bulk cancel ${begun.id}\` ends it.`
          )
        }
        const ended = yield* waitWithProgress(client, begun, "erased")
        yield* print(ended, () => resultOf(ended))
        if (isNamed) yield* failUnlessAllDone(ended)
        else if (ended.status !== "completed") yield* stoppedError(ended)
      })
    )
  })
).pipe(
  Command.withDescription(
    "Erase what belongs to one person: the data of the events, messages and streams that match; of the runs that those events started or that received them; and the keys and configurations that are named. Ids, times and statuses stay; backups keep the data. The command counts the data first, and asks before it erases unless --yes is given."
  ),
  Command.withShortDescription("Erase what belongs to one person"),
  Command.withExamples([
    { command: `ironflow erase --where 'event.data.email == "jane@example.com"' --dry-run` },
    {
      command: `ironflow erase --where 'event.data.customerId == "c-17"' --stream customer-c-17 --key 'profiles/c-17*' --cancel --yes`
    }
  ])
)
