/** `ironflow runs count`: counts runs, grouped by a common property. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { CountRunsOptions, RunCount, RunCounts } from "../Client/Client.ts"
import { groupings, isTimeGrouping } from "../Protocol/RunCounts.ts"
import { listLimit } from "../Limits.ts"
import { runStatuses } from "../RunStatus.ts"
import { durationText, oneLine, print, table } from "./Output.ts"
import { filterFlags, filtersOf, warnOfUnknownFunctions } from "./RunList.ts"
import { callServer } from "./ServerCalls.ts"
import { textFlag } from "./TextFlag.ts"

export const count = Command.make(
  "count",
  {
    by: textFlag("by").pipe(
      Flag.withMetavar("WHAT"),
      Flag.withDescription(
        `What the runs of a group have in common: ${groupings.join(", ")}, or a path such as event.data.customerId`
      )
    ),
    ...filterFlags,
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription(
        "Maximum number of groups, up to 1000; by default 1000 when grouped by time, and 20 otherwise"
      ),
      Flag.optional
    ),
    durations: Flag.Boolean("durations").pipe(
      Flag.withDescription("Also show the durations: median (P50), P95 and longest"),
      Flag.withDefault(false)
    ),
    timeLimit: Flag.Int("time-limit").pipe(
      Flag.withMetavar("MS"),
      Flag.withDescription("How long the server may search, in milliseconds; 2000 by default, 10000 at most"),
      Flag.withDefault(2000)
    )
  },
  Effect.fnUntraced(function* ({ by, durations, limit, timeLimit, ...input }) {
    const { limit: _, cursor: __, ...filters } = yield* filtersOf(input)
    const counts = yield* callServer((client) =>
      client.countRuns({
        ...filters,
        // the type has only the values that the server accepts, and the server refuses any other
        by: by as CountRunsOptions["by"],
        durations,
        timeLimit,
        ...(Option.isNone(limit) ? {} : { limit: limit.value })
      })
    )
    yield* print(counts, () => tableOf(counts, by, durations))
    if (counts.count === 0) yield* warnOfUnknownFunctions(filters)
  })
).pipe(
  Command.withDescription(
    "Count runs in groups, the largest group first. When grouped by time, the latest groups are shown, in the order of time. This shows, for example, which customer's runs fail, or what a function did last night."
  )
)

const tableOf = (counts: RunCounts, by: string, durations: boolean): string => {
  const { count, filledBackTo, groupCount, groups, lookedBackTo } = counts
  const statuses = runStatuses.filter((status) => counts.statuses[status] !== undefined)
  const cells = (name: string, counted: RunCount): ReadonlyArray<string> => [
    name,
    String(counted.count),
    ...(by === "status" ? [] : statuses.map((status) => String(counted.statuses[status] ?? 0))),
    ...(durations
      ? counted.durations === undefined
        ? ["", "", ""]
        : [counted.durations.p50, counted.durations.p95, counted.durations.max].map(durationText)
      : [])
  ]
  const headings = [
    by.startsWith("event.") ? by : by.toUpperCase(),
    "RUNS",
    ...(by === "status" ? [] : statuses.map((status) => status.toUpperCase())),
    ...(durations ? ["P50", "P95", "LONGEST"] : [])
  ]
  const rows = groups.map((group) => cells(oneLine(group.value ?? "(none)", 100), group))
  const isCut = groupCount > groups.length
  return [
    ...(count === 0
      ? [
          lookedBackTo === undefined
            ? "There are no such runs."
            : "There are no such runs in the time that was searched."
        ]
      : [table(headings, isCut || groups.length > 1 ? [...rows, cells("(all)", counts)] : rows)]),
    ...(isCut
      ? [
          `${groupCount - groups.length} more ${groupCount - groups.length === 1 ? "group" : "groups"}${isTimeGrouping(by) ? " from earlier times" : ""}: ${groups.length < listLimit ? "raise --limit" : "add filters"} to see ${groupCount - groups.length === 1 ? "it" : "them"}`
        ]
      : []),
    ...(filledBackTo === undefined
      ? []
      : [
          `Runs from before ${filledBackTo} may be missing, or be counted as (none): the engine is still indexing them by the paths in searchBy.`
        ]),
    ...(lookedBackTo === undefined
      ? []
      : [
          `Only runs since ${lookedBackTo} were counted, because the time limit was reached or there were too many groups. Raise --time-limit or add filters`
        ])
  ].join("\n")
}
