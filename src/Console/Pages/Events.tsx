/**
 * The list of the events that match the filters in the address, newest first and updated live; the form that emits an
 * event; and the page of one event.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import {
  type EventVerdict,
  explainEvent,
  getEvent,
  listEvents,
  type LoggedEvent,
  trigger
} from "../../Protocol/Events.ts"
import { isPattern } from "../../Pattern.ts"
import { type FunctionTrigger, getFunction, restFunctions } from "../../Protocol/Functions.ts"
import { AddressInput } from "../Parts/AddressInput.tsx"
import { ask } from "../Parts/Calls.ts"
import { DataForm } from "../Parts/DataForm.tsx"
import { useFunctions } from "../Parts/SharedLists.ts"
import { Action, Copy, count, Empty, Failure, Link, Loading, Value } from "../Parts/Elements.tsx"
import { readEntry, Field, readJsonEntry, readRequiredEntry } from "../Parts/Fields.tsx"
import { usePagedList } from "../Parts/PagedList.ts"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { environment, go, hrefOf, place, setQuery, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, oneLine, pathTo } from "../Parts/Rows.tsx"
import { RunTable, useRuns } from "../Parts/RunRows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { Time } from "../Parts/Time.tsx"
import { type Column, VirtualList } from "../Parts/VirtualList.tsx"

/** The part of an event that a row keeps. The payloads of thousands of events would not fit in a browser. */
interface Row extends Pick<LoggedEvent, "id" | "name" | "timestamp" | "position"> {
  readonly data: string
  readonly entity: string
}

const PAGE = 100

const columns: ReadonlyArray<Column<Row>> = [
  { title: "Stored", width: "6rem", narrow: "4.5rem", cell: ({ timestamp }) => <Time at={timestamp} /> },
  {
    title: "Event",
    width: "minmax(7rem, 1fr)",
    narrow: "minmax(7rem, 1.5fr)",
    cell: ({ id, name }) => (
      <Link to={pathTo("events", id)} title={id}>
        {name}
      </Link>
    )
  },
  {
    title: "Data",
    width: "minmax(6rem, 2.5fr)",
    cell: ({ data }) => (
      <span class="mono quiet" title={data}>
        {data}
      </span>
    )
  },
  {
    title: "Entity",
    width: "minmax(4rem, 0.8fr)",
    isExtra: true,
    cell: ({ entity }) => <Truncated>{entity}</Truncated>
  },
  {
    title: "Position",
    width: "6rem",
    isExtra: true,
    cell: ({ position }) => <span class="number">{count(position)}</span>
  }
]

/**
 * The filters. `name` is the name in the address, and of the flag of `ironflow events list`. `option` is the name of
 * the option of the call.
 */
const filters = [
  { name: "name", option: "name", label: "Name or pattern", placeholder: "order.*", isSearch: true },
  { name: "entity", option: "entityId", label: "Entity", placeholder: "o-1" },
  { name: "entity-type", option: "entityType", label: "Entity type", placeholder: "order" },
  { name: "idempotency-key", option: "idempotencyKey", label: "Idempotency key", placeholder: "o-1" },
  { name: "since", option: "since", label: "Since", placeholder: "2026-11-29T10:00:00Z" },
  { name: "until", option: "until", label: "Until", placeholder: "2026-11-29T11:00:00Z" }
] as const

export const Events = () => {
  const { query } = place.value
  const body = Object.fromEntries(
    filters.flatMap(({ option, name }) => {
      const value = query.get(name)
      return value === null ? [] : [[option, value]]
    })
  )
  const key = `events ${environment.value} ${JSON.stringify(body)}`
  const list = usePagedList(
    key,
    async (cursor, signal) => {
      const page = await ask(listEvents, {
        body: { ...body, limit: PAGE, ...(cursor === undefined ? {} : { cursor }) },
        ...(signal === undefined ? {} : { signal })
      })
      return { items: page.events.map(toRow), next: page.nextCursor }
    },
    ({ id }: Row) => id
  )
  const hasFilters = Object.keys(body).length > 0
  return (
    <>
      <div class="title">
        <h1>Events</h1>
        <div class="actions">
          <Emit label="Emit an event" name={query.get("name") ?? undefined} />
        </div>
      </div>
      <form class="filters" role="search" aria-label="Events" onSubmit={(event) => event.preventDefault()}>
        {filters.map(({ label, name, placeholder, ...more }) => (
          <label key={name}>
            {label}
            <AddressInput
              name={name}
              size={14}
              placeholder={placeholder}
              onFinish={(text) => setQuery({ [name]: text.trim() })}
              isSearch={"isSearch" in more}
            />
          </label>
        ))}
        {hasFilters && (
          <button
            type="button"
            onClick={() => setQuery(Object.fromEntries(filters.map(({ name }) => [name, []])))}
          >
            Clear
          </button>
        )}
      </form>
      {list.error !== undefined && <Failure error={list.error} retry={list.refresh} />}
      {list.items === undefined ? (
        list.error === undefined && <Loading />
      ) : list.items.length === 0 ? (
        hasFilters ? (
          <Empty>
            No event matches these filters{list.hasMore ? " among those searched so far" : ""}.{" "}
            {list.hasMore && (
              <button type="button" onClick={list.more}>
                Look further back
              </button>
            )}
          </Empty>
        ) : (
          <Empty command={command(`emit order.placed '{"orderId":"o-1"}'`)}>
            There are no events in this environment yet. To emit one:
          </Empty>
        )
      ) : (
        <>
          <VirtualList
            key={key}
            label="Events"
            items={list.items}
            keyOf={({ id }) => id}
            columns={columns}
            onEnd={list.more}
            onTop={list.setTop}
          />
          <div class="below" role="status">
            <span>{count(list.items.length)} shown, newest first</span>
            {list.hasMore && (
              <button type="button" class="small" onClick={list.more}>
                Look further back
              </button>
            )}
            {list.newer > 0 && (
              <button type="button" class="small" onClick={list.showNewer}>
                {count(list.newer)} newer: show
              </button>
            )}
          </div>
        </>
      )}
    </>
  )
}

const toRow = ({ data, entity, id, name, position, timestamp }: LoggedEvent): Row => ({
  id,
  name,
  timestamp,
  position,
  data: oneLine(data),
  entity: entity === undefined ? "" : `${entity.type} ${entity.id}`
})

/** A button that emits an event, and then opens the page of that event. */
export const Emit = ({
  label,
  latest,
  name
}: {
  readonly label: string
  readonly name?: string | undefined
  /** The event whose data the form begins with. */
  readonly latest?: Latest | undefined
}) => (
  <Action
    label={label}
    confirm="The event is stored, and starts one run of every function whose trigger matches."
    fields={
      <>
        <EmitFields name={name} latest={latest} />
        <Field
          name="key"
          label="Idempotency key"
          hint="Within 24 hours, an event with the same name and key is stored only once."
        />
      </>
    }
    act={async (entered) => {
      const event = readRequiredEntry(entered, "name", "the name of the event")
      const key = readEntry(entered, "key")
      const version = readEntry(entered, "version")
      const { eventId, runIds } = await ask(trigger, {
        body: {
          event,
          data: readJsonEntry(entered, "data", "The data") ?? {},
          ...(version === undefined ? {} : { version: Number(version) }),
          ...(key === undefined ? {} : { idempotencyKey: key })
        }
      })
      refreshAll()
      go(hrefOf(pathTo("events", eventId)))
      return `${event} is stored, and has started ${runIds.length === 1 ? "1 run" : `${runIds.length} runs`}.`
    }}
  />
)

/** What the form for an event begins with. */
type Latest = Pick<LoggedEvent, "data" | "version">

/** The last event of this name, as an example. */
export const latestOf = async (name: string, signal?: AbortSignal): Promise<Latest | undefined> => {
  const { events } = await ask(listEvents, {
    body: { name, limit: 1 },
    ...(signal === undefined ? {} : { signal })
  })
  return events[0]
}

/** Maximum number of functions that are read to find a schema of the event. */
const MAX_FUNCTIONS = 5

/** The first trigger that has a schema of the event, among the triggers of all functions. */
const triggerWithSchema = async (name: string): Promise<FunctionTrigger | undefined> => {
  const { functions } = await ask(restFunctions)
  const candidates = functions.filter(({ triggers }) => triggers.some(({ event }) => event === name))
  for (const { id } of candidates.slice(0, MAX_FUNCTIONS)) {
    const { triggers } = await ask(getFunction, { body: { id } })
    const foundTrigger = triggers.find(({ event, schema }) => event === name && schema !== undefined)
    if (foundTrigger !== undefined) return foundTrigger
  }
  return undefined
}

const jsonText = (data: unknown): string => (data === undefined ? "" : JSON.stringify(data, null, 2))

/**
 * Fields for the name and the data of an event. When a name is entered, the data of the last event of that name is
 * filled in, unless the user has written something. When a function has a schema for the event, there is a field for
 * each member of the data.
 */
const EmitFields = ({
  latest,
  name = ""
}: {
  readonly name?: string | undefined
  readonly latest: Latest | undefined
}) => {
  const [text, setText] = useState(jsonText(latest?.data))
  /** The name of the event whose last data fills the form; empty once the user has written something. */
  const [filledEvent, setFilledEvent] = useState("")
  const [lastVersion, setLastVersion] = useState(latest?.version ?? 1)
  const [schemaTrigger, setSchemaTrigger] = useState<FunctionTrigger | undefined>(undefined)
  const lookedUpName = useRef("")
  // the current content of the form, for code that runs later, when an answer arrives
  const currentForm = useRef({ text, filledEvent })
  currentForm.current = { text, filledEvent }
  const isWritten = () => currentForm.current.text !== "" && currentForm.current.filledEvent === ""
  const functions = useFunctions().value
  const names = [
    ...new Set(functions?.flatMap(({ triggers }) => triggers.flatMap(({ event }) => event ?? [])) ?? [])
  ].filter((event) => !isPattern(event))
  const lookUp = async (eventName: string): Promise<void> => {
    lookedUpName.current = eventName
    setSchemaTrigger(undefined)
    // a pattern matches events of several names
    if (eventName === "" || isPattern(eventName)) return
    // without a schema the data is entered as JSON
    const foundTrigger = await triggerWithSchema(eventName).catch(() => undefined)
    if (lookedUpName.current !== eventName) return
    setSchemaTrigger(foundTrigger)
    if (isWritten()) return
    const last = await latestOf(eventName).catch(() => undefined)
    if (lookedUpName.current !== eventName || isWritten()) return
    setText(jsonText(last?.data))
    setLastVersion(last?.version ?? 1)
    setFilledEvent(last === undefined ? "" : eventName)
  }
  useEffect(() => void lookUp(name), [])
  const version = schemaTrigger === undefined ? lastVersion : (schemaTrigger.version ?? 1)
  return (
    <>
      <label>
        Name
        <input
          name="name"
          list="event-names"
          placeholder="order.placed"
          defaultValue={name}
          required
          autoComplete="off"
          onChange={(event) => void lookUp(event.currentTarget.value.trim())}
        />
        <datalist id="event-names">
          {names.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      </label>
      <DataForm
        schema={schemaTrigger?.schema}
        text={text}
        onText={(next) => {
          setText(next)
          setFilledEvent("")
        }}
      />
      {version > 1 && (
        <>
          <input type="hidden" name="version" value={version} />
          <p class="quiet">The event is stored with data version {version}.</p>
        </>
      )}
      {filledEvent !== "" && <p class="quiet">This is the data of the last event {filledEvent}.</p>}
    </>
  )
}

/** How far the time of a run may be from the time of its event: the runs of an event are created together with it. */
const NEAR_MS = 1000

export const Event = ({ variables: { id = "" } }: { readonly variables: Variables }) => {
  const {
    error,
    refresh,
    value: event
  } = useLive(`event ${id}`, (signal) => ask(getEvent, { body: { id }, signal }), { once: true })
  if (event === undefined)
    return (
      <>
        <h1>Event {id}</h1>
        {error === undefined ? <Loading /> : <Failure error={error} retry={refresh} />}
      </>
    )
  return (
    <>
      <div class="title">
        <h1>{event.name}</h1>
        <div class="actions">
          <Emit label="Emit another like it" name={event.name} latest={event} />
          <Copy text={command(`events get ${event.id}`)} label="Copy as CLI" />
        </div>
      </div>
      <Facts
        facts={[
          ["Event", <span class="mono">{event.id}</span>],
          ["Stored", <Time at={event.timestamp} exactly />],
          ["Position in the log", count(event.position)],
          ["Version of its data", String(event.version)],
          ["Source", event.source],
          ["Idempotency key", event.idempotencyKey],
          [
            "Entity",
            event.entity === undefined ? undefined : (
              <Link to={pathTo("streams", event.entity.id)}>
                {event.entity.type} {event.entity.id}, version {event.entity.version}
              </Link>
            )
          ]
        ]}
      />
      <StartedRuns event={event} />
      <section>
        <h2>Data</h2>
        <Value value={event.data} name="Data of the event" />
      </section>
      {event.metadata !== undefined && (
        <section>
          <h2>Metadata</h2>
          <Value value={event.metadata} name="Metadata of the event" />
        </section>
      )}
    </>
  )
}

const StartedRuns = ({ event }: { readonly event: LoggedEvent }) => {
  const at = Date.parse(event.timestamp)
  const runs = useRuns(`of event ${event.id}`, {
    eventName: event.name,
    createdFrom: new Date(at - NEAR_MS).toISOString(),
    createdTo: new Date(at + NEAR_MS).toISOString(),
    where: `event.id == ${JSON.stringify(event.id)}`,
    limit: 100
  })
  return (
    <section>
      <h2>Runs that it has started</h2>
      <RunTable label="Runs that the event has started" live={runs}>
        It has started no runs.
      </RunTable>
      <NotStartedFunctions id={event.id} />
    </section>
  )
}

/** The functions that the event has not started, and why. */
const NotStartedFunctions = ({ id }: { readonly id: string }) => {
  const { error, refresh, value } = useLive(
    `why not ${id}`,
    async (signal) => (await ask(explainEvent, { variables: { id }, signal })).functions,
    { everyMs: 5000 }
  )
  const notStarted = value?.filter(({ code }) => code !== "STARTED") ?? []
  // functions whose triggers match the name are shown at once, since people ask about these; the other functions are
  // folded away
  const listening = notStarted.filter(({ code }) => code !== "NO_TRIGGER" && code !== "OTHER_SCHEDULE")
  const notListening = notStarted.filter((one) => !listening.includes(one))
  return (
    <>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {listening.length > 0 && (
        <>
          <h3>Functions that it has not started, and why</h3>
          <Verdicts verdicts={listening} />
        </>
      )}
      {notListening.length > 0 && (
        <details>
          <summary>
            {notListening.length === 1
              ? "1 function that does not listen to this event"
              : `${count(notListening.length)} functions that do not listen to this event`}
          </summary>
          <Verdicts verdicts={notListening} />
        </details>
      )}
    </>
  )
}

const Verdicts = ({ verdicts }: { readonly verdicts: ReadonlyArray<EventVerdict> }) => (
  <ul>
    {verdicts.map(({ functionId, message }) => (
      <li key={functionId}>
        <Link to={pathTo("functions", functionId)}>{functionId}</Link>: {message}.
      </li>
    ))}
  </ul>
)
