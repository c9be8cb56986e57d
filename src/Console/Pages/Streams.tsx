/**
 * Entity streams: the events of a stream by version, the runs that each event has started, and the newest snapshot.
 */
import { getEntityHistory, getSnapshot, listStreams, type StreamSummary } from "../../Protocol/Streams.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { count, Empty, Failure, Link, Loading, Status, Value } from "../Parts/Elements.tsx"
import { usePagedList } from "../Parts/PagedList.ts"
import { useLive } from "../Parts/Live.ts"
import { go, hrefOf, place, setQuery, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, oneLine, pathTo } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { Time } from "../Parts/Time.tsx"
import { type Column, VirtualList } from "../Parts/VirtualList.tsx"

const PAGE_SIZE = 200

const columns: ReadonlyArray<Column<StreamSummary>> = [
  {
    title: "Entity",
    width: "minmax(8rem, 2fr)",
    cell: ({ entityId }) => <Link to={pathTo("streams", entityId)}>{entityId}</Link>
  },
  {
    title: "Type",
    width: "minmax(6rem, 1fr)",
    cell: ({ entityType }) => <Truncated>{entityType}</Truncated>
  },
  { title: "Version", width: "5rem", cell: ({ version }) => <span class="number">{count(version)}</span> },
  {
    title: "Newest event",
    width: "7rem",
    isExtra: true,
    cell: ({ lastEventAt }) => <Time at={lastEventAt} />
  }
]

export const Streams = () => {
  const entityType = place.value.query.get("type") ?? undefined
  const key = `streams ${entityType ?? ""}`
  const list = usePagedList(
    key,
    async (offset, signal) => {
      const from = Number(offset ?? 0)
      const page = await ask(listStreams, {
        body: { entityType, limit: PAGE_SIZE, offset: from },
        ...(signal === undefined ? {} : { signal })
      })
      const end = from + page.streams.length
      return {
        items: page.streams,
        next: page.streams.length === 0 || end >= page.totalCount ? undefined : String(end)
      }
    },
    ({ entityId }: StreamSummary) => entityId
  )
  return (
    <>
      <h1>Streams</h1>
      <form class="filters" role="search" aria-label="Streams" onSubmit={(event) => event.preventDefault()}>
        <label>
          Entity
          <input
            type="search"
            placeholder="o-1"
            data-search=""
            onChange={(event) => {
              const id = event.currentTarget.value.trim()
              if (id !== "") go(hrefOf(pathTo("streams", id)))
            }}
          />
        </label>
        <label>
          Type
          <input
            type="search"
            placeholder="order"
            value={entityType ?? ""}
            onChange={(event) => setQuery({ type: event.currentTarget.value.trim() })}
          />
        </label>
      </form>
      {list.error !== undefined && <Failure error={list.error} retry={list.refresh} />}
      {list.items === undefined ? (
        list.error === undefined && <Loading />
      ) : list.items.length === 0 ? (
        entityType === undefined ? (
          <Empty command={command(`streams append o-1 order.placed '{"total":12}' --type order`)}>
            There are no streams in this environment yet. The first event of an entity creates its stream:
          </Empty>
        ) : (
          <Empty>There are no streams of this type.</Empty>
        )
      ) : (
        <VirtualList
          key={key}
          label="Streams"
          items={list.items}
          keyOf={({ entityId }) => entityId}
          columns={columns}
          onEnd={list.more}
          onTop={list.setTop}
        />
      )}
    </>
  )
}

interface Entry {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly timestamp: string
  readonly data: string
  readonly runs: ReadonlyArray<{ readonly id: string; readonly functionId: string; readonly state: string }>
}

const entryColumns: ReadonlyArray<Column<Entry>> = [
  { title: "Version", width: "4.5rem", cell: ({ version }) => <span class="number">{count(version)}</span> },
  {
    title: "Event",
    width: "minmax(7rem, 1.2fr)",
    narrow: "minmax(5rem, 1fr)",
    cell: ({ id, name }) => (
      <Link to={pathTo("events", id)} title={id}>
        {name}
      </Link>
    )
  },
  {
    title: "Data",
    width: "minmax(6rem, 2fr)",
    isExtra: true,
    cell: ({ data }) => (
      <span class="mono quiet" title={data}>
        {data}
      </span>
    )
  },
  {
    title: "Runs",
    width: "minmax(7rem, 1.2fr)",
    cell: ({ runs }) =>
      runs.map(({ functionId, id, state }) => (
        <Link key={id} to={pathTo("runs", id)} title={`${functionId}: ${state}`}>
          <Status state={state}>{functionId}</Status>{" "}
        </Link>
      ))
  },
  { title: "Stored", width: "6rem", isExtra: true, cell: ({ timestamp }) => <Time at={timestamp} /> }
]

export const Stream = ({ variables: { id = "" } }: { readonly variables: Variables }) => {
  const about = useLive(`stream ${id}`, async (signal) => {
    const { info } = await ask(getEntityHistory, { body: { entityId: id, limit: 1 }, signal })
    return info
  })
  const list = usePagedList(
    `events of ${id}`,
    async (fromVersion, signal) => {
      const page = await ask(getEntityHistory, {
        body: {
          entityId: id,
          direction: "backward",
          limit: 50,
          ...(fromVersion === undefined ? {} : { fromVersion: Number(fromVersion) })
        },
        ...(signal === undefined ? {} : { signal })
      })
      return {
        next: page.nextCursor,
        items: page.entries.map(({ event, runs }) => ({
          id: event.id,
          name: event.name,
          version: event.entityVersion,
          timestamp: event.timestamp,
          data: oneLine(event.data),
          runs: runs.map(({ functionId, id, state }) => ({ functionId, id, state }))
        }))
      }
    },
    ({ id }: Entry) => id
  )
  if (about.value === undefined)
    return (
      <>
        <h1>{id}</h1>
        {about.error === undefined ? <Loading /> : <Failure error={about.error} retry={about.refresh} />}
      </>
    )
  const { createdAt, entityType, eventCount, updatedAt, version } = about.value
  return (
    <>
      <h1>
        {entityType} {id}
      </h1>
      <Facts
        facts={[
          ["Version", count(version)],
          ["Events", count(eventCount)],
          ["Began", <Time at={createdAt} exactly />],
          ["Newest event", <Time at={updatedAt} />]
        ]}
      />
      <section>
        <h2>Its events, newest first</h2>
        {list.error !== undefined && <Failure error={list.error} retry={list.refresh} />}
        {list.items !== undefined && (
          <VirtualList
            label="Events of the entity"
            items={list.items}
            keyOf={({ id }) => id}
            columns={entryColumns}
            total={eventCount}
            onEnd={list.more}
            onTop={list.setTop}
          />
        )}
        {list.newer > 0 && (
          <div class="below" role="status">
            <button type="button" class="small" onClick={list.showNewer}>
              {count(list.newer)} newer: show
            </button>
          </div>
        )}
      </section>
      <Snapshot id={id} />
    </>
  )
}

/** The last snapshot that was saved, if there is one. */
const Snapshot = ({ id }: { readonly id: string }) => {
  const { error, refresh, value } = useLive(
    `snapshot of ${id}`,
    async (signal) => {
      try {
        return [await ask(getSnapshot, { body: { entityId: id }, signal })]
      } catch (cause) {
        if (cause instanceof CallError && cause.status === 404) return []
        throw cause
      }
    },
    { everyMs: 5000 }
  )
  const [snapshot] = value ?? []
  if (error !== undefined) return <Failure error={error} retry={refresh} />
  if (snapshot === undefined) return null
  return (
    <section>
      <h2>Newest snapshot</h2>
      <p class="quiet">
        Of version {count(snapshot.entityVersion)}, taken <Time at={snapshot.createdAt} />.
      </p>
      <Value value={snapshot.state} name="State of the snapshot" />
    </section>
  )
}
