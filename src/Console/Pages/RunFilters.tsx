/** The filters of runs. They are in the address: this file reads them from there, and shows fields for them. */
import { useState } from "preact/hooks"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { groupings } from "../../Protocol/RunCounts.ts"
import { runStatuses } from "../../RunStatus.ts"
import { listRuns } from "../../Protocol/Runs.ts"
import { AddressInput } from "../Parts/AddressInput.tsx"
import { engineNow } from "../Parts/Clock.ts"
import { ask, CallError, isRecord } from "../Parts/Calls.ts"
import { Copy } from "../Parts/Elements.tsx"
import { useFunctions } from "../Parts/SharedLists.ts"
import { useLive } from "../Parts/Live.ts"
import { place, setQuery } from "../Parts/Router.ts"
import { command, quoteForShell } from "../Parts/ShellCommand.ts"

/**
 * The filters in the address, as the call needs them. A filter with several values is a repeated parameter.
 */
export const readFilters = (query: URLSearchParams): ListRuns => {
  const firstOf = (name: string): string | undefined => query.get(name) ?? undefined
  const attributes = query.getAll("attribute").flatMap((text) => {
    const at = text.indexOf("=")
    return at < 1 ? [] : [[text.slice(0, at), valueOf(text.slice(at + 1))] as const]
  })
  const all: { [K in keyof ListRuns]: ListRuns[K] | undefined } = {
    functionIds: query.getAll("function"),
    statuses: query.getAll("status"),
    createdFrom: timeOf(firstOf("created-from")),
    createdTo: timeOf(firstOf("created-to")),
    endedFrom: timeOf(firstOf("ended-from")),
    endedTo: timeOf(firstOf("ended-to")),
    eventName: firstOf("event"),
    entityId: firstOf("entity"),
    idempotencyKey: firstOf("idempotency-key"),
    error: firstOf("error"),
    where: firstOf("where"),
    ...(attributes.length === 0 ? {} : { attributes: Object.fromEntries(attributes) })
  }
  return Object.fromEntries(
    Object.entries(all).filter(
      ([, value]) => value !== undefined && (!Array.isArray(value) || value.length > 0)
    )
  ) as ListRuns // only members of `all`
}

/** The value that was entered. `12` and `true` are parsed, and `"12"` is the string `12`. */
const valueOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/**
 * The time that was entered: a point in time, or a relative time such as `30m`, `12h` or `7d`. Any other text is
 * returned as it is, and the engine reports the error.
 */
const timeOf = (text: string | undefined): string | undefined => {
  const [, amount, unit] = /^(\d{1,6})([mhd])$/.exec(text ?? "") ?? []
  if (amount === undefined) return text
  const size = unit === "m" ? 60_000 : unit === "h" ? 3_600_000 : 86_400_000
  // rounded to the minute, so that the list stays the same when it is requested again
  return new Date(Math.floor((engineNow() - Number(amount) * size) / 60_000) * 60_000).toISOString()
}

/**
 * The error for a filter by an attribute that has no value, if there is such a filter. If the filter were ignored, the
 * list would not be what the user asked for.
 */
export const checkFilters = (query: URLSearchParams): CallError | undefined => {
  const wrong = query.getAll("attribute").find((text) => text.indexOf("=") < 1)
  return wrong === undefined
    ? undefined
    : new CallError(
        `The attribute ${JSON.stringify(wrong.slice(0, 100))} has no value: write it like event.data.customerId=c-7`,
        400,
        "VALIDATION_ERROR"
      )
}

/**
 * The fields of the filters. Some fields are always shown. The others appear when one of their filters is set, or when
 * the user asks for more filters.
 */
export const Filters = () => {
  const { query } = place.value
  const [isOpen, setOpen] = useState(false)
  const isMore = isOpen || filterNames.slice(3).some((name) => query.has(name))
  const functions = useFunctions().value?.map(({ id }) => id) ?? []
  const set = (name: string) => (value: string) =>
    setQuery({ [name]: value.trim() === "" ? [] : [value.trim()] })
  return (
    <form class="filters" role="search" aria-label="Runs" onSubmit={(event) => event.preventDefault()}>
      <label>
        Status
        <select
          value={query.get("status") ?? ""}
          onChange={(event) => set("status")(event.currentTarget.value)}
        >
          <option value="">any</option>
          {runStatuses.map((status) => (
            <option key={status} value={status}>
              {status}
            </option>
          ))}
        </select>
      </label>
      <Field name="function" label="Function" placeholder="process-order" set={set} suggestions={functions} />
      <Field name="error" label="Error has the text" placeholder="card declined" set={set} />
      <GroupBy />
      {isMore ? (
        <>
          <Field name="event" label="Event" placeholder="order.placed" set={set} />
          <Field name="entity" label="Entity" placeholder="o-1" set={set} />
          <Field name="idempotency-key" label="Idempotency key" placeholder="o-1" set={set} />
          <Field name="created-from" label="Created since" placeholder="12h" set={set} />
          <Field name="created-to" label="Created until" placeholder="30m" set={set} />
          <Field name="ended-from" label="Ended since" placeholder="7d" set={set} />
          <Field name="ended-to" label="Ended until" placeholder="2026-11-29T08:00:00Z" set={set} />
          <Field name="attribute" label="Attribute" placeholder="event.data.customerId=c-7" set={set} />
          <Field
            name="where"
            label="Expression (CEL)"
            placeholder="event.data.total > 100"
            set={set}
            isWide
          />
        </>
      ) : (
        <button type="button" onClick={() => setOpen(true)}>
          More filters
        </button>
      )}
      {filterNames.some((name) => query.has(name)) && (
        <button
          type="button"
          onClick={() => setQuery(Object.fromEntries(filterNames.map((name) => [name, []])))}
        >
          Clear
        </button>
      )}
      <Copy text={() => commandOf(query)} label="Copy as CLI" />
    </form>
  )
}

const Field = ({
  isWide = false,
  label,
  name,
  placeholder,
  set,
  suggestions = []
}: {
  readonly name: string
  readonly label: string
  readonly placeholder: string
  /** Values that the field suggests. */
  readonly suggestions?: ReadonlyArray<string>
  readonly isWide?: boolean
  readonly set: (name: string) => (value: string) => void
}) => (
  <label class={isWide ? "wide" : ""}>
    {label}
    <AddressInput
      name={name}
      placeholder={placeholder}
      onFinish={set(name)}
      {...(suggestions.length > 0 ? { list: `${name}s` } : {})}
    />
    {suggestions.length > 0 && <Suggestions id={`${name}s`} words={suggestions} />}
  </label>
)

/** The list of values that a field suggests. */
const Suggestions = ({ id, words }: { readonly id: string; readonly words: ReadonlyArray<string> }) => (
  <datalist id={id}>
    {words.map((word) => (
      <option key={word} value={word} />
    ))}
  </datalist>
)

/** How many recent runs are read. Members of the data of these runs are suggested in the field "Group by". */
const SAMPLED_RUNS = 20

/** The field that says how to group runs: by a property, such as `status`, or by a path. */
const GroupBy = () => {
  const paths = useFunctions().value?.flatMap(({ searchBy }) => searchBy ?? []) ?? []
  const membersOfData =
    useLive(
      "members",
      async (signal) => {
        const { runs } = await ask(listRuns, { body: { limit: SAMPLED_RUNS }, signal })
        return runs.flatMap(({ input }) =>
          isRecord(input)
            ? Object.keys(input).flatMap((name) =>
                /^[A-Za-z_]\w*$/.test(name) ? [`event.data.${name}`] : []
              )
            : []
        )
      },
      { once: true }
    ).value ?? []
  return (
    <label class="path">
      Group by
      <AddressInput
        name="by"
        list="group-by"
        placeholder="event.data.customerId"
        onFinish={(text) => setQuery({ by: text.trim() })}
      />
      <Suggestions id="group-by" words={[...new Set([...paths, ...membersOfData, ...groupings])]} />
    </label>
  )
}

/** The names of the filters in the address. They are the names of the flags of `ironflow runs list`, too. */
const filterNames: ReadonlyArray<string> = [
  "function",
  "status",
  "error",
  "event",
  "entity",
  "idempotency-key",
  "created-from",
  "created-to",
  "ended-from",
  "ended-to",
  "attribute",
  "where"
]

/** The `ironflow` command that lists or counts the runs that the page shows. */
const commandOf = (query: URLSearchParams): string =>
  command(
    ...(query.has("by") ? ["runs count", `--by ${quoteForShell(query.get("by") ?? "")}`] : ["runs list"]),
    ...[...query].flatMap(([name, value]) =>
      filterNames.includes(name) ? [`--${name} ${quoteForShell(value)}`] : []
    )
  )
