/** Projections: their progress, errors and states. */
import {
  deadLetters,
  deleteProjection,
  listProjections,
  pauseProjection,
  projectionChanges,
  projectionStatus,
  type ProjectionStatusInfo,
  rebuildProjection,
  restGetProjection,
  resumeProjection,
  retryDeadLetters
} from "../../Protocol/Projections.ts"
import { LEGACY_RUNNERS, TOKENLESS_OWNER } from "../../Projection/OwnerName.ts"
import { ask } from "../Parts/Calls.ts"
import { DeadLetters } from "../Parts/DeadLetters.tsx"
import { Action, count, Empty, Failure, Link, Loading, Status, Value } from "../Parts/Elements.tsx"
import { readEntry, Field } from "../Parts/Fields.tsx"
import { usePagedList } from "../Parts/PagedList.ts"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { askAll } from "../Parts/CompleteList.ts"
import { go, hrefOf, place, setQuery, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, Listing, oneLine, pathTo } from "../Parts/Rows.tsx"
import { currentUserName } from "../Parts/Session.ts"
import { Time, localizeTimes } from "../Parts/Time.tsx"
import { type Column, VirtualList } from "../Parts/VirtualList.tsx"

const columns: ReadonlyArray<Column<ProjectionStatusInfo>> = [
  {
    title: "Status",
    width: "6.5rem",
    cell: ({ message, status }) => (
      <span title={message}>
        <Status state={status} />
      </span>
    )
  },
  {
    title: "Projection",
    width: "minmax(5rem, 1fr)",
    cell: ({ name }) => (
      <Link to={pathTo("projections", name)} title={name}>
        {name}
      </Link>
    )
  },
  {
    title: "Lag",
    width: "3.5rem",
    isExtra: true,
    cell: ({ lag }) => <span class="number">{count(lag)}</span>
  },
  {
    title: "Dead letters",
    width: "5.75rem",
    cell: ({ deadLetters }) =>
      deadLetters === 0 ? <span class="quiet">0</span> : <Status state="dead">{count(deadLetters)}</Status>
  },
  { title: "Mode", width: "5.5rem", isExtra: true, cell: ({ mode }) => mode },
  {
    title: "Events",
    width: "minmax(6rem, 1.2fr)",
    isExtra: true,
    cell: ({ events }) => <Truncated>{events.join(", ")}</Truncated>
  },
  {
    title: "Worker",
    width: "minmax(6rem, 1fr)",
    isExtra: true,
    cell: ({ owner }) =>
      owner === undefined ? <span class="quiet">none</span> : <Truncated>{owner}</Truncated>
  }
]

export const Projections = () => (
  <>
    <h1>Projections</h1>
    <Listing
      label="Projections"
      live={useLive("projections", (signal) => askAll(listProjections, { signal }))}
      keyOf={({ name }) => name}
      textOf={({ events, name, owner = "", status }) => `${name} ${status} ${owner} ${events.join(" ")}`}
      columns={columns}
      empty={
        <Empty command={`createProjection({ name: "order-totals", events: ["order.*"], … })`}>
          There are no projections in this environment yet. A worker registers the projections in its code,
          such as:
        </Empty>
      }
    />
  </>
)

export const OneProjection = ({ variables: { name = "" } }: { readonly variables: Variables }) => {
  const {
    error,
    refresh,
    value: projection
  } = useLive(`projection ${name}`, (signal) => ask(projectionStatus, { variables: { name }, signal }))
  if (projection === undefined)
    return (
      <>
        <h1>{name}</h1>
        {error === undefined ? <Loading /> : <Failure error={error} retry={refresh} />}
      </>
    )
  return (
    <>
      <div class="title">
        <h1>{name}</h1>
        <Status state={projection.status} />
        <ProjectionActions projection={projection} />
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      <p>{localizeTimes(projection.message)}</p>
      {projection.status === "rebuilding" && projection.rebuildTo !== undefined && (
        <p>
          <progress
            value={Math.min(projection.lastEventSeq, projection.rebuildTo)}
            max={Math.max(1, projection.rebuildTo)}
            aria-label="Rebuilt"
          />{" "}
          {count(projection.lastEventSeq)} of {count(projection.rebuildTo)}
        </p>
      )}
      <Facts
        facts={[
          ["Lag", `${count(projection.lag)} ${projection.lag === 1 ? "event" : "events"}`],
          ["Position", count(projection.lastEventSeq)],
          ["Mode", projection.mode],
          ["Events", projection.events.join(", ")],
          ["Partition key", projection.partitionKey],
          [
            "Worker",
            projection.owner === undefined ? (
              "none"
            ) : projection.owner === TOKENLESS_OWNER ? (
              LEGACY_RUNNERS
            ) : (
              <Link to={pathTo("workers", projection.owner)} class="mono">
                {projection.owner}
              </Link>
            )
          ],
          ["Paused", projection.pausedAt === undefined ? undefined : <Time at={projection.pausedAt} />],
          ["Paused by", projection.pausedBy],
          ["Why paused", projection.pauseReason],
          [
            "Tried again",
            projection.failing === undefined
              ? undefined
              : `the event at position ${count(projection.failing.position)}, which has failed ${projection.failing.failures === 1 ? "once" : `${projection.failing.failures} times`}`
          ],
          [
            "Saves that were refused",
            projection.refusedSaves === 0 ? undefined : count(projection.refusedSaves)
          ],
          ["Changed", <Time at={projection.updatedAt} />]
        ]}
      />
      {projection.lastError !== undefined && (
        <section>
          <h2>What went wrong last</h2>
          <p>
            At position {count(projection.lastError.position)}, <Time at={projection.lastError.at} />:{" "}
            {projection.lastError.message}
          </p>
          {projection.lastError.stack !== undefined && (
            <Value value={projection.lastError.stack} name="Stack of the last error" />
          )}
        </section>
      )}
      <Letters name={name} total={projection.deadLetters} />
      {projection.mode === "managed" &&
        (projection.partitionKey === undefined ? <State name={name} /> : <States name={name} />)}
    </>
  )
}

const ProjectionActions = ({ projection }: { readonly projection: ProjectionStatusInfo }) => {
  const variables = { name: projection.name }
  return (
    <div class="actions">
      {projection.status === "paused" ? (
        <Action
          label="Resume"
          act={async () => {
            await ask(resumeProjection, { variables })
            refreshAll()
            return `The projection ${projection.name} continues where it was.`
          }}
        />
      ) : (
        <Action
          label="Pause"
          confirm="The projection gets no more events until it is resumed. Events that its worker handles now are still saved."
          fields={<Field name="reason" label="Why" placeholder="the warehouse moves" />}
          act={async (entered) => {
            const reason = readEntry(entered, "reason")
            await ask(pauseProjection, {
              variables,
              body: { by: currentUserName(), ...(reason === undefined ? {} : { reason }) }
            })
            refreshAll()
            return `The projection ${projection.name} is paused.`
          }}
        />
      )}
      <Action
        label="Rebuild"
        isDangerous
        confirm={
          projection.mode === "managed"
            ? "The dead letters are deleted, and the projection handles the whole log again. Readers see the old states until the rebuild is done."
            : "The projection starts again from the beginning of the log. Its handler is called again for every event, and repeats its side effects."
        }
        act={async () => {
          const { remainingEvents } = await ask(rebuildProjection, { variables, body: {} })
          refreshAll()
          return `The projection ${projection.name} is being rebuilt: ${remainingEvents === 1 ? "1 event is" : `${count(remainingEvents)} events are`} left.`
        }}
      />
      <Action
        label="Delete"
        isDangerous
        confirm="The projection and its states are deleted. A worker that still has the projection starts it again from the beginning of the log."
        act={async () => {
          await ask(deleteProjection, { variables })
          refreshAll()
          go(hrefOf("projections"))
          return `The projection ${projection.name} is deleted.`
        }}
      />
    </div>
  )
}

const Letters = ({ total, name }: { readonly name: string; readonly total: number }) => {
  const letters = useLive(`dead letters of ${name} ${total}`, async (signal) => {
    const page = await ask(deadLetters, { variables: { name }, query: { limit: 100 }, signal })
    return page.deadLetters.map(({ attempts, error, event, failedAt, position, retrying }) => ({
      position,
      attempts,
      failedAt,
      eventId: event.id,
      eventName: event.name,
      why: error.message,
      isRetrying: retrying
    }))
  })
  const retry = async (position?: number): Promise<number> => {
    const body = position === undefined ? {} : { position }
    return (await ask(retryDeadLetters, { variables: { name }, body })).retrying
  }
  return <DeadLetters letters={letters} total={total} retry={retry} />
}

const State = ({ name, partition }: { readonly name: string; readonly partition?: string }) => {
  const { error, refresh, value } = useLive(`state of ${name} ${partition ?? ""}`, (signal) =>
    ask(restGetProjection, { variables: { name }, query: { partition }, signal })
  )
  return (
    <section>
      <h2>{partition === undefined ? "State" : `State of ${partition}`}</h2>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {value !== undefined &&
        (value.state === undefined ? (
          <p class="quiet">This {partition === undefined ? "projection" : "partition"} has no state yet.</p>
        ) : (
          <>
            <Value value={value.state.state} name="State" />
            <p class="quiet">
              Saved <Time at={value.state.updatedAt} />, as version {count(value.state.version)}, with all
              events up to position {count(value.state.lastEventSeq)}.
            </p>
          </>
        ))}
    </section>
  )
}

interface StateRow {
  readonly partition: string
  readonly state: string
  readonly updatedAt: string
}

const States = ({ name }: { readonly name: string }) => {
  const partition = place.value.query.get("partition") ?? undefined
  const list = usePagedList(
    `states of ${name}`,
    async (after, signal) => {
      const page = await ask(projectionChanges, {
        variables: { name },
        query: { limit: 100, after },
        ...(signal === undefined ? {} : { signal })
      })
      return {
        next: page.next,
        items: page.states.map(({ partitionKey, state, updatedAt }) => ({
          partition: partitionKey,
          state: oneLine(state),
          updatedAt
        }))
      }
    },
    ({ partition }: StateRow) => partition
  )
  return (
    <>
      {partition !== undefined && <State name={name} partition={partition} />}
      <section>
        <h2>States</h2>
        <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
          <label>
            Partition
            <input
              type="search"
              data-search=""
              value={partition ?? ""}
              onChange={(event) => setQuery({ partition: event.currentTarget.value })}
            />
          </label>
        </form>
        {list.error !== undefined && <Failure error={list.error} retry={list.refresh} />}
        {list.items === undefined ? null : list.items.length === 0 ? (
          <p class="quiet">There are no states yet.</p>
        ) : (
          <VirtualList
            label="States"
            items={list.items}
            keyOf={({ partition }) => partition}
            onEnd={list.more}
            onTop={list.setTop}
            columns={[
              {
                title: "Partition",
                width: "minmax(6rem, 1fr)",
                cell: ({ partition }) => (
                  <Link to={pathTo("projections", name)} query={{ partition }}>
                    {partition}
                  </Link>
                )
              },
              {
                title: "State",
                width: "minmax(6rem, 3fr)",
                cell: ({ state }) => (
                  <span class="mono quiet" title={state}>
                    {state}
                  </span>
                )
              },
              {
                title: "Changed",
                width: "6rem",
                isExtra: true,
                cell: ({ updatedAt }) => <Time at={updatedAt} />
              }
            ]}
          />
        )}
      </section>
    </>
  )
}
