/** `ironflow runs list`: finds runs, and follows new runs. Also the filter flags of all commands on several runs. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import {
  Client,
  type ClientApi,
  type EffectKind,
  type ListRunsOptions,
  type ListRunsResult,
  type Run
} from "../Client/Client.ts"
import { ValidationError } from "../Errors.ts"
import { nearest } from "../OptionKeys.ts"
import { momentOf, timeFilters } from "../RunFilters.ts"
import { show } from "../Show.ts"
import { runStatuses } from "../RunStatus.ts"
import { ironflow } from "./Ironflow.ts"
import { keepTrying } from "./KeepTrying.ts"
import { durationBetween, print, table, toJson } from "./Output.ts"
import { showProgress, withProgressLine } from "./ProgressLine.ts"
import { callServer, provideServer } from "./ServerCalls.ts"
import { textFlag } from "./TextFlag.ts"

const optionalTextFlag = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)

const timeFlag = (name: string, description: string) =>
  optionalTextFlag(
    name,
    "TIME",
    `${description}: an ISO time such as 2026-01-31T12:00:00Z, or how long ago, such as 30m, 12h or 7d`
  )

/** The filter flags of commands that list runs, count runs, or act on many runs. */
export const filterFlags = {
  function: textFlag("function").pipe(
    Flag.withMetavar("ID"),
    Flag.withDescription("Only runs of this function; may be repeated"),
    Flag.between(0, 100)
  ),
  status: Flag.Literals("status", runStatuses).pipe(
    Flag.withMetavar("STATUS"),
    Flag.withDescription("Only runs in this status; may be repeated"),
    Flag.between(0, runStatuses.length)
  ),
  createdFrom: timeFlag("created-from", "Only runs that were created at this time or later"),
  createdTo: timeFlag("created-to", "Only runs that were created before this time"),
  endedFrom: timeFlag("ended-from", "Only runs that ended at this time or later"),
  endedTo: timeFlag("ended-to", "Only runs that ended before this time"),
  event: optionalTextFlag("event", "NAME", "Only runs that an event of this name has started"),
  entity: optionalTextFlag("entity", "ID", "Only runs that an event of this entity has started"),
  idempotencyKey: optionalTextFlag(
    "idempotency-key",
    "KEY",
    "Only runs that an event with this idempotency key has started"
  ),
  error: optionalTextFlag(
    "error",
    "TEXT",
    "Only failed runs with this text in their error: its message, name or code"
  ),
  attribute: textFlag("attribute").pipe(
    Flag.withMetavar("PATH=VALUE"),
    Flag.withDescription(
      "Only runs with this value at a path that their function names in searchBy, as in event.data.orderId=o-17; may be repeated"
    ),
    Flag.between(0, 10)
  ),
  where: optionalTextFlag(
    "where",
    "CEL",
    'Only runs for which this expression over event, output and error is true, as in "event.data.amount > 100"; all runs that match the other filters are searched'
  )
}

interface FilterInput {
  readonly function: ReadonlyArray<string>
  readonly status: ReadonlyArray<(typeof runStatuses)[number]>
  readonly createdFrom: Option.Option<string>
  readonly createdTo: Option.Option<string>
  readonly endedFrom: Option.Option<string>
  readonly endedTo: Option.Option<string>
  readonly event: Option.Option<string>
  readonly entity: Option.Option<string>
  readonly idempotencyKey: Option.Option<string>
  readonly error: Option.Option<string>
  readonly attribute: ReadonlyArray<string>
  readonly where: Option.Option<string>
}

const units: { readonly [unit: string]: number } = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Converts the value of a time flag to the form that the server reads. */
export const timeOf = (name: string, value: string, now: number): Effect.Effect<string, ValidationError> => {
  const [, count, unit = ""] = /^(\d{1,9})([smhd])$/.exec(value) ?? []
  const ago = count === undefined ? undefined : momentOf(now - Number(count) * units[unit]!)
  if (ago !== undefined) return Effect.succeed(new Date(ago).toISOString())
  return momentOf(value) !== undefined
    ? Effect.succeed(value)
    : Effect.fail(
        new ValidationError(
          `${flagOf(name)} takes how long ago, such as 30m, 12h or 7d, or an ISO time with a valid date, such as 2026-01-31 or 2026-01-31T12:00:00Z, got ${show(value)}`
        )
      )
}

const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** The list, or its item if there is only one. */
const oneOrSeveral = <A>(list: ReadonlyArray<A>): A | ReadonlyArray<A> =>
  list.length === 1 ? list[0]! : list

/** Makes filters from the flags. */
export const filtersOf = (input: FilterInput): Effect.Effect<ListRunsOptions, ValidationError> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const attributes: Array<readonly [string, string]> = []
    for (const value of input.attribute) {
      const at = value.indexOf("=")
      if (at < 1) {
        return yield* new ValidationError(
          `--attribute takes a path and its value, as in event.data.orderId=o-17, got ${show(value)}`
        )
      }
      attributes.push([value.slice(0, at), value.slice(at + 1)])
    }
    const memberOf = <A>(name: string, value: Option.Option<A>) =>
      Option.isNone(value) ? {} : { [name]: value.value }
    const timeMember = (name: (typeof timeFilters)[number]) =>
      Option.isNone(input[name])
        ? Effect.succeed({})
        : Effect.map(timeOf(name, input[name].value, now), (at) => ({ [name]: at }))
    return {
      ...(input.function.length === 0 ? {} : { functionId: oneOrSeveral(input.function) }),
      ...(input.status.length === 0 ? {} : { status: oneOrSeveral(input.status) }),
      ...(yield* timeMember("createdFrom")),
      ...(yield* timeMember("createdTo")),
      ...(yield* timeMember("endedFrom")),
      ...(yield* timeMember("endedTo")),
      ...memberOf("eventName", input.event),
      ...memberOf("entityId", input.entity),
      ...memberOf("idempotencyKey", input.idempotencyKey),
      ...memberOf("error", input.error),
      ...memberOf("where", input.where),
      ...(attributes.length === 0 ? {} : { attributes: Object.fromEntries(attributes) })
    }
  })

/** Says on standard error that a function in the filters does not exist. To be called when no run was found. */
export const warnOfUnknownFunctions = ({ functionId }: Pick<ListRunsOptions, "functionId">) =>
  Effect.gen(function* () {
    const given = functionId === undefined ? [] : [functionId].flat()
    if (given.length === 0) return
    const known = (yield* callServer((client) => client.listFunctions())).map(({ id }) => id)
    for (const id of given.filter((one) => !known.includes(one))) {
      const near = nearest(id, known)
      yield* Console.error(
        `There is no function ${show(id)}${near === undefined ? "; `ironflow functions list` shows what exists." : `: did you mean ${near}?`}`
      )
    }
    // the command has its result. A key that may list no functions still gets it
  }).pipe(Effect.ignore)

export const list = Command.make(
  "list",
  {
    ...filterFlags,
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many at most, up to 1000; 20 by default"),
      Flag.withDefault(20)
    ),
    cursor: textFlag("cursor").pipe(
      Flag.withMetavar("CURSOR"),
      Flag.withDescription("The cursor that the previous page printed"),
      Flag.optional
    ),
    timeLimit: Flag.Int("time-limit").pipe(
      Flag.withMetavar("MS"),
      Flag.withDescription(
        "How long to search, in milliseconds, when --where has to read many runs; 10000 by default"
      ),
      Flag.withDefault(10_000)
    ),
    follow: Flag.Boolean("follow").pipe(
      Flag.withDescription(
        "Then print each run that starts to match, on a line of its own. Ctrl-C stops the command"
      ),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* (input) {
    const filters = yield* filtersOf(input)
    if (input.follow) {
      if (Option.isSome(input.cursor)) {
        return yield* new ValidationError("--follow begins with the newest runs: leave --cursor out")
      }
      const { json } = yield* ironflow
      yield* warnOfUnknownFunctions(filters)
      return yield* provideServer(
        Effect.flatMap(Client, (client) => follow(client, filters, input.limit, json))
      )
    }
    if (input.timeLimit < 0) {
      return yield* new ValidationError(`--time-limit must be 0 or more milliseconds, got ${input.timeLimit}`)
    }
    const page = yield* callServer((client) =>
      withProgressLine(
        searchPage(
          client,
          {
            ...filters,
            limit: input.limit,
            ...(Option.isNone(input.cursor) ? {} : { cursor: input.cursor.value })
          },
          input.timeLimit
        )
      )
    )
    const now = yield* Clock.currentTimeMillis
    yield* print(page, () => tableOf(page, now, absoluteTimes(input, filters)))
    if (page.runs.length === 0) yield* warnOfUnknownFunctions(filters)
  })
).pipe(
  Command.withDescription(
    "List runs, the newest first: all runs, or those that match all filters. If you give several functions, or several statuses, one of them must match."
  )
)

/**
 * Reads one page. The server stops each search at its own time limit. Then this function asks the server to continue,
 * until the page is full or `timeLimit` milliseconds are over.
 */
const searchPage = (client: ClientApi<EffectKind>, options: ListRunsOptions, timeLimit: number) =>
  Effect.gen(function* () {
    const beganAt = yield* Clock.currentTimeMillis
    const limit = options.limit ?? 0
    let page: ListRunsResult = yield* client.listRuns(options)
    while (
      page.lookedBackTo !== undefined &&
      page.nextCursor !== undefined &&
      page.runs.length < limit &&
      (yield* Clock.currentTimeMillis) - beganAt < timeLimit
    ) {
      const foundRuns = page.runs
      showProgress(`${foundRuns.length} found, searched back to ${page.lookedBackTo}`)
      const damagedRuns = page.damaged ?? []
      const nextPage: ListRunsResult = yield* client.listRuns({
        ...options,
        limit: limit - foundRuns.length,
        cursor: page.nextCursor
      })
      const allDamaged = [...damagedRuns, ...(nextPage.damaged ?? [])]
      page = {
        ...nextPage,
        runs: [...foundRuns, ...nextPage.runs],
        ...(allDamaged.length === 0 ? {} : { damaged: allDamaged })
      }
    }
    return page
  })

/**
 * The flags that have a relative time, such as 7d, with absolute times: the request for the next page must have the
 * same times as the request for this page.
 */
const absoluteTimes = (input: FilterInput, filters: ListRunsOptions): string =>
  timeFilters
    .flatMap((name) => {
      const value = Option.getOrUndefined(input[name])
      return value === undefined || value === filters[name]
        ? []
        : [` ${flagOf(name)} ${String(filters[name])}`]
    })
    .join("")

const tableOf = (page: ListRunsResult, now: number, times: string): string => {
  const damaged = (page.damaged ?? []).map(({ id, message }) => `${id} is damaged. ${message}`)
  const rows = page.runs.map((run) => [
    run.id,
    run.functionId,
    run.status,
    run.createdAt,
    durationBetween(run.createdAt, run.endedAt) || `${durationBetween(run.createdAt, undefined, now)} so far`
  ])
  const lines = [
    ...(rows.length === 0 ? [] : [table(["RUN", "FUNCTION", "STATUS", "CREATED", "ENDED AFTER"], rows)]),
    ...damaged
  ]
  if (lines.length === 0) {
    lines.push(page.lookedBackTo === undefined ? "There are no such runs." : "There are no such runs so far.")
  }
  if (page.filledBackTo !== undefined) {
    lines.push(
      `Runs from before ${page.filledBackTo} cannot be found by --attribute yet: the engine is still indexing them.`
    )
  }
  if (page.nextCursor !== undefined) {
    const extentText =
      page.lookedBackTo !== undefined
        ? `Searched back to ${page.lookedBackTo}`
        : page.isTotalExact === false
          ? page.totalCount > page.runs.length + 1
            ? `At least ${page.totalCount} in all`
            : "There are more"
          : `${page.totalCount} in all`
    lines.push(`${extentText}; the next page:${times} --cursor ${page.nextCursor}`)
  }
  return lines.join("\n")
}

/** How often new runs are asked for. */
const POLL_MS = 1000
/** How many shown runs are remembered, so that none is shown twice. */
const MAX_REMEMBERED = 10_000

/**
 * Shows the newest matching runs, and then each run that matches later. Leaves out runs that are older
 * than the first page.
 */
const follow = (client: Client["Service"], filters: ListRunsOptions, limit: number, json: boolean) =>
  Effect.gen(function* () {
    const shownIds = new Set<string>()
    const showRuns = (runs: ReadonlyArray<Run>) =>
      Effect.forEach(
        runs.filter(({ id }) => !shownIds.has(id)).toReversed(),
        (run) => {
          shownIds.add(run.id)
          return Console.log(json ? toJson(run) : lineOf(run))
        },
        { discard: true }
      )
    const now = yield* Clock.currentTimeMillis
    const { runs: newestRuns } = yield* client.listRuns({ ...filters, limit })
    yield* showRuns(newestRuns)
    const createdFrom = newestRuns.at(-1)?.createdAt ?? filters.createdFrom ?? now
    const options = { ...filters, createdFrom, limit: 1000 }
    return yield* Effect.forever(
      Effect.gen(function* () {
        yield* Effect.sleep(POLL_MS)
        yield* showRuns(yield* keepTrying(readUnseen(client, options, shownIds)))
        for (const id of shownIds) if (shownIds.size > MAX_REMEMBERED) shownIds.delete(id)
      })
    )
  })

/**
 * Reads the newest runs, page by page, until all runs of a page were shown already. More than a page of runs may have
 * started since the last request.
 */
const readUnseen = (client: Client["Service"], options: ListRunsOptions, shownIds: ReadonlySet<string>) =>
  Effect.gen(function* () {
    const foundRuns: Array<Run> = []
    let cursor: string | undefined
    do {
      const page: ListRunsResult = yield* client.listRuns({
        ...options,
        ...(cursor === undefined ? {} : { cursor })
      })
      foundRuns.push(...page.runs)
      cursor = page.runs.some(({ id }) => !shownIds.has(id)) ? page.nextCursor : undefined
    } while (cursor !== undefined && foundRuns.length < MAX_REMEMBERED)
    return foundRuns
  })

const lineOf = (run: Run): string =>
  [run.createdAt, run.id, run.functionId, run.status, durationBetween(run.createdAt, run.endedAt)]
    .join("  ")
    .trimEnd()
