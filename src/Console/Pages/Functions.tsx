/** Functions: their triggers, the statistics of their runs, and the workers that have their code. */
import { deleteFunction, type FunctionInfo, getFunction } from "../../Protocol/Functions.ts"
import { ask } from "../Parts/Calls.ts"
import { nextFires, schedulesOf, triggerText } from "../Parts/Cron.ts"
import { Action, count, Empty, Failure, Link, Loading, Status } from "../Parts/Elements.tsx"
import { useFunctions, useWorkers } from "../Parts/SharedLists.ts"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { go, hrefOf, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, Listing, pathTo, Table } from "../Parts/Rows.tsx"
import { RunTable, useRuns } from "../Parts/RunRows.tsx"
import { now } from "../Parts/Clock.ts"
import { Time } from "../Parts/Time.tsx"
import type { Column } from "../Parts/VirtualList.tsx"
import { Emit, latestOf } from "./Events.tsx"
import { FunctionFigures } from "./FunctionFigures.tsx"
import { FunctionActions, PausedNotice } from "./FunctionActions.tsx"
import { History, LiveVersions } from "./FunctionVersions.tsx"

const triggersOf = ({ triggers }: FunctionInfo): string =>
  triggers.map(triggerText).join(", ") || "invoked only"

export const Functions = () => {
  const functions = useFunctions()
  const workers = useWorkers()
  const columns: ReadonlyArray<Column<FunctionInfo>> = [
    {
      title: "Function",
      width: "minmax(7rem, 1fr)",
      cell: ({ id, name }) => (
        <Link to={pathTo("functions", id)} title={name}>
          {id}
        </Link>
      )
    },
    {
      title: "State",
      width: "8rem",
      cell: ({ id, paused }) => {
        if (paused !== undefined) return <Status state="paused" />
        if (workers.value === undefined) return <span class="quiet">–</span>
        const workerCount = workers.value.filter(({ functionIds }) => functionIds.includes(id)).length
        return workerCount === 0 ? (
          <Status state="pending">no worker</Status>
        ) : (
          <Status state="connected">{workerCount === 1 ? "1 worker" : `${workerCount} workers`}</Status>
        )
      }
    },
    {
      title: "Started by",
      width: "minmax(6rem, 2fr)",
      isExtra: true,
      cell: (fn) => <Truncated>{triggersOf(fn)}</Truncated>
    },
    {
      title: "Version",
      width: "9.5rem",
      isExtra: true,
      cell: ({ codeVersion, version }) => (
        <Truncated title={`registration ${version}`}>{codeVersion}</Truncated>
      )
    },
    { title: "Changed", width: "6rem", isExtra: true, cell: ({ updatedAt }) => <Time at={updatedAt} /> }
  ]
  return (
    <>
      <h1>Functions</h1>
      <Listing
        label="Functions"
        live={functions}
        keyOf={({ id }) => id}
        textOf={(fn) => `${fn.id} ${fn.name} ${triggersOf(fn)}`}
        columns={columns}
        empty={
          <Empty command="npx ironflow dev">
            There are no functions in this environment yet. A worker registers the functions in its code. To
            run a worker from a file:
          </Empty>
        }
      />
    </>
  )
}

export const OneFunction = ({ variables: { id = "" } }: { readonly variables: Variables }) => {
  const {
    error,
    refresh,
    value: fn
  } = useLive(`function ${id}`, (signal) => ask(getFunction, { body: { id }, signal }), { everyMs: 3000 })
  if (fn === undefined)
    return (
      <>
        <h1>{id}</h1>
        {error === undefined ? <Loading /> : <Failure error={error} retry={refresh} />}
      </>
    )
  const eventName = fn.triggers.find(
    (trigger) => trigger.event !== undefined && !/[*>]/.test(trigger.event)
  )?.event
  return (
    <>
      <div class="title">
        <h1>{fn.name}</h1>
        <div class="actions">
          <FunctionActions fn={fn} />
          {eventName !== undefined && <EmitLatest name={eventName} />}
          <Action
            label="Delete"
            isDangerous
            confirm={`Events and schedules no longer start "${id}". Its runs stay. A worker that still has the function registers it again.`}
            act={async () => {
              await ask(deleteFunction, { variables: { id } })
              refreshAll()
              go(hrefOf("functions"))
              return `Nothing starts ${id} any more.`
            }}
          />
        </div>
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      <PausedNotice fn={fn} />
      <Facts
        facts={[
          ["Function", <span class="mono">{fn.id}</span>],
          ["Registration", `no. ${count(fn.version)}`],
          [
            "Version of its code",
            fn.codeVersion === "" ? undefined : <span class="mono">{fn.codeVersion}</span>
          ],
          [
            "Runs continue with",
            fn.versioning === "pin" ? "the version that they began with" : "the latest version"
          ],
          [
            "Hash of its code",
            fn.codeHash === "" || fn.codeHash === fn.codeVersion ? undefined : (
              <span class="mono">{fn.codeHash}</span>
            )
          ],
          ["Runs are found by", fn.searchBy?.join(", ")],
          ["Changed", <Time at={fn.updatedAt} />],
          ["First registered", <Time at={fn.createdAt} />]
        ]}
      />
      <FunctionFigures id={id} />
      <Triggers fn={fn} />
      <FailedRuns {...fn} />
      <RecentRuns id={id} />
      <FunctionWorkers id={id} />
      <LiveVersions id={id} />
      <History id={id} />
    </>
  )
}

/** A form to emit an event of this name. The form begins with the data of the last such event, as an example. */
const EmitLatest = ({ name }: { readonly name: string }) => {
  const { error, value } = useLive(
    `latest ${name}`,
    async (signal) => ({ latest: await latestOf(name, signal) }),
    { once: true }
  )
  // waits for the answer, since the fields take their initial values only once
  if (value === undefined && error === undefined) return null
  return <Emit label={`Emit ${name}`} name={name} latest={value?.latest} />
}

const Triggers = ({ fn }: { readonly fn: FunctionInfo }) => {
  const schedules = schedulesOf(fn)
  // computed anew once a minute
  const minute = Math.floor(now.value / 60_000) * 60_000
  return (
    <section>
      <h2>What starts it</h2>
      {fn.triggers.length === 0 ? (
        <p class="quiet">Only other functions start it, by invoking it.</p>
      ) : (
        <Table
          label="Triggers"
          items={fn.triggers}
          keyOf={(trigger) => JSON.stringify(trigger)}
          columns={[
            {
              title: "Event or schedule",
              width: "",
              cell: ({ cron, event, timezone }) =>
                cron === undefined ? (
                  <Link to="events" query={{ name: event }}>
                    {event}
                  </Link>
                ) : (
                  <>
                    <span class="mono">{cron}</span> {timezone ?? "UTC"}
                  </>
                )
            },
            {
              title: "If",
              width: "",
              cell: ({ expression }) => <span class="mono">{expression}</span>
            },
            {
              title: "While a run is unfinished",
              width: "",
              isExtra: true,
              cell: ({ cron, overlap }) =>
                cron === undefined
                  ? ""
                  : overlap === "skip"
                    ? "the next run is left out"
                    : overlap === "queue"
                      ? "the next run waits"
                      : "the next run begins"
            }
          ]}
        />
      )}
      {schedules.length > 0 && fn.paused === undefined && (
        <>
          <h3>Next fires</h3>
          <ul>
            {schedules
              .flatMap((schedule) => nextFires(schedule, minute, 3))
              .sort()
              .slice(0, 5)
              .map((at) => (
                <li key={at}>
                  <Time at={at} exactly /> <span class="quiet">(</span>
                  <Time at={at} />
                  <span class="quiet">)</span>
                </li>
              ))}
          </ul>
        </>
      )}
    </section>
  )
}

const FailedRuns = ({ id, searchBy = [] }: Pick<FunctionInfo, "id" | "searchBy">) => {
  const failed = useRuns(`failed ${id}`, { functionIds: [id], statuses: ["failed"], limit: 5 })
  const total = failed.value?.total ?? 0
  return (
    <section>
      <h2>Failures{total > 0 ? ` (${count(total)})` : ""}</h2>
      <RunTable label="Failed runs" live={failed} isOfOneFunction all={{ function: id, status: "failed" }}>
        No run of this function has failed.
      </RunTable>
      {total > 0 && searchBy.length > 0 && (
        <p class="quiet">
          Count failures by{" "}
          {searchBy.map((by, i) => (
            <>
              {i > 0 && ", "}
              <Link to="runs" query={{ function: id, status: "failed", by }}>
                {by}
              </Link>
            </>
          ))}
        </p>
      )}
    </section>
  )
}

const RecentRuns = ({ id }: { readonly id: string }) => {
  const recent = useRuns(`recent ${id}`, { functionIds: [id], limit: 10 })
  const total = recent.value?.total ?? 0
  return (
    <section>
      <h2>Newest runs{total > 0 ? ` (${count(total)} in all)` : ""}</h2>
      <RunTable label="Newest runs" live={recent} isOfOneFunction all={{ function: id }}>
        This function has no runs yet.
      </RunTable>
    </section>
  )
}

const FunctionWorkers = ({ id }: { readonly id: string }) => {
  const { error, refresh, value } = useWorkers()
  const workersOfFunction = value?.filter(({ functionIds }) => functionIds.includes(id))
  return (
    <section>
      <h2>Workers that have it</h2>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {workersOfFunction !== undefined &&
        (workersOfFunction.length === 0 ? (
          <p class="quiet">
            No worker has this function now: its runs wait for a worker, unless a push endpoint has it.
          </p>
        ) : (
          <ul>
            {workersOfFunction.map((worker) => (
              <li key={worker.id}>
                <Link to={pathTo("workers", worker.id)} class="mono">
                  {worker.id}
                </Link>{" "}
                at {worker.hostname}, executes {worker.activeJobs} of at most {worker.maxConcurrentJobs} runs
              </li>
            ))}
          </ul>
        ))}
    </section>
  )
}
