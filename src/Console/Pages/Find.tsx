/**
 * The search field, and its results. It finds runs, functions and entity streams by what people know: the number of
 * an order, a customer, an id, or words of an error.
 */
import { useLayoutEffect, useRef } from "preact/hooks"
import { listEvents } from "../../Protocol/Events.ts"
import { restFunctions } from "../../Protocol/Functions.ts"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { listRuns } from "../../Protocol/Runs.ts"
import { ask } from "../Parts/Calls.ts"
import { Empty, Failure, Link, Loading } from "../Parts/Elements.tsx"
import { useLive } from "../Parts/Live.ts"
import { go, hrefOf, place, setQuery } from "../Parts/Router.ts"
import { pathTo } from "../Parts/Rows.tsx"
import { type RunRow, RunTable, toRunRow } from "../Parts/RunRows.tsx"
import { command, quoteForShell } from "../Parts/ShellCommand.ts"
import { Time } from "../Parts/Time.tsx"

/** The longest text that is searched for: longer values of events are not indexed. */
const MAX_CHARS = 256
/** Maximum number of runs that each search finds. */
const RUN_LIMIT = 20
/** How long a search may take when the user asks to search further. */
const MORE_MS = 10_000

/**
 * The search field, which is on every page. When the text is the id of a run or event, the field opens the page of
 * that run or event.
 */
export const FindBox = () => {
  const ref = useRef<HTMLInputElement>(null)
  const { path, query } = place.value
  const text = path === "find" ? (query.get("q") ?? "") : ""
  // a layout effect: an effect after the page is painted would clear what the user has typed meanwhile
  useLayoutEffect(() => {
    if (ref.current !== null) ref.current.value = text
  }, [path, text])
  return (
    <form
      class="find"
      role="search"
      aria-label="Everything"
      onSubmit={(event) => {
        event.preventDefault()
        const entered = ref.current?.value.trim() ?? ""
        if (entered === "") return
        if (/^run_\w+$/.test(entered)) return go(hrefOf(pathTo("runs", entered)))
        if (/^evt_\w+$/.test(entered)) return go(hrefOf(pathTo("events", entered)))
        go(hrefOf("find", { q: entered }))
      }}
    >
      <input
        ref={ref}
        type="search"
        aria-label="Find anything"
        placeholder="Find an order, a customer, an id, an error"
        maxLength={MAX_CHARS}
        data-search=""
      />
    </form>
  )
}

/** The expression for runs whose event has a member with this value, as a string or a number. */
const whereOf = (text: string): string =>
  `event.data.exists(name, string(event.data[name]) == ${JSON.stringify(text)})`

const find = async (text: string, isMore: boolean, signal: AbortSignal) => {
  // a user who may not see functions or events still finds runs
  const functions = await ask(restFunctions, { signal }).then(
    (results) => results.functions,
    () => []
  )
  const paths = [...new Set(functions.flatMap(({ searchBy }) => searchBy ?? []))]
  const searches: ReadonlyArray<ListRuns> = [
    ...paths.map((path) => ({ attributes: { [path]: text } })),
    { entityId: text },
    { idempotencyKey: text },
    { error: text }
  ]
  const runs = new Map<string, RunRow>()
  const search = async (filters: ListRuns) => {
    const page = await ask(listRuns, { body: { limit: RUN_LIMIT, ...filters }, signal })
    for (const run of page.runs) runs.set(run.id, toRunRow(run))
    return page
  }
  const [isEntity] = await Promise.all([
    ask(listEvents, { body: { entityId: text, limit: 1 }, signal }).then(
      ({ events }) => events.length > 0,
      () => false
    ),
    ...searches.map(search)
  ])
  // perhaps no function indexes the value, so the events of all runs are searched too, from the newest back
  const where = whereOf(text)
  const begunAt = performance.now()
  let page = await search({ where })
  while (isMore && page.nextCursor !== undefined && performance.now() - begunAt < MORE_MS)
    page = await search({ where, cursor: page.nextCursor })
  const lower = text.toLowerCase()
  return {
    runs: [...runs.values()].sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1)),
    lookedBackTo: page.nextCursor === undefined ? undefined : page.lookedBackTo,
    isMore: page.nextCursor !== undefined,
    isEntity,
    functions: functions.map(({ id }) => id).filter((id) => id.toLowerCase().includes(lower))
  }
}

export const Find = () => {
  const text = (place.value.query.get("q") ?? "").trim().slice(0, MAX_CHARS)
  const isMore = place.value.query.get("look") === "more"
  return (
    <>
      <h1>Find {text}</h1>
      {text === "" ? (
        <Empty>Enter at the top what you search for: the number of an order, a customer, an id.</Empty>
      ) : (
        <Results text={text} isMore={isMore} />
      )}
    </>
  )
}

const Results = ({ isMore, text }: { readonly text: string; readonly isMore: boolean }) => {
  const live = useLive(
    `find ${isMore} ${text}`,
    (signal) => find(text, isMore, signal),
    // a search through many events is only repeated when the user asks for it
    isMore ? { once: true } : { everyMs: 30_000 }
  )
  const results = live.value
  if (results === undefined)
    return live.error === undefined ? <Loading /> : <Failure error={live.error} retry={live.refresh} />
  const { functions, isEntity, runs } = results
  return (
    <>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {functions.length > 0 && (
        <ul class="attention">
          {functions.map((id) => (
            <li key={id}>
              The function <Link to={pathTo("functions", id)}>{id}</Link>
            </li>
          ))}
        </ul>
      )}
      <h2>Runs</h2>
      {runs.length > 0 ? (
        <RunTable
          label="Runs that were found"
          live={{ ...live, value: { runs, total: runs.length, isTotalExact: !results.isMore } }}
        >
          None
        </RunTable>
      ) : (
        <Empty command={command("runs list", `--where ${quoteForShell(whereOf(text))}`)}>
          No run has this value in the data of its event, as its entity or idempotency key, or in its error.
          To find a value deeper inside the data, use an expression:
        </Empty>
      )}
      {results.isMore && (
        <p class="below" role="status">
          <span>
            {results.lookedBackTo === undefined ? (
              "There are more runs than these"
            ) : (
              <>
                Events were searched back to <Time at={results.lookedBackTo} exactly />
              </>
            )}
          </span>
          {!isMore && (
            <button type="button" class="small" onClick={() => setQuery({ look: "more" })}>
              Look further back
            </button>
          )}
        </p>
      )}
      {isEntity && (
        <p>
          The stream of <Link to={pathTo("streams", text)}>{text}</Link>
        </p>
      )}
    </>
  )
}
