/** The workers that are connected: what each of them can run, and what it runs now. */
import type { WorkerInfo } from "../../Protocol/Workers.ts"
import { Empty, Failure, Link, Loading } from "../Parts/Elements.tsx"
import type { Variables } from "../Parts/Router.ts"
import { useWorkers } from "../Parts/SharedLists.ts"
import { Truncated, Facts, Listing, pathTo } from "../Parts/Rows.tsx"
import { RunTable, useRuns } from "../Parts/RunRows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { Time } from "../Parts/Time.tsx"
import type { Column } from "../Parts/VirtualList.tsx"

const labelsOf = ({ labels }: WorkerInfo): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(", ")

/** Shows, as a bar and in numbers, how many runs a worker executes, and how many it may execute at the same time. */
const Load = ({ worker: { activeJobs, maxConcurrentJobs } }: { readonly worker: WorkerInfo }) => (
  <span class="jobs">
    <progress value={activeJobs} max={Math.max(1, maxConcurrentJobs)} aria-label="Runs" />
    <span class="number">
      {activeJobs}/{maxConcurrentJobs}
    </span>
  </span>
)

const columns: ReadonlyArray<Column<WorkerInfo>> = [
  {
    title: "Worker",
    width: "minmax(8rem, 1.5fr)",
    cell: ({ id }) => (
      <Link to={pathTo("workers", id)} class="mono" title={id}>
        {id}
      </Link>
    )
  },
  { title: "Runs", width: "8rem", cell: (worker) => <Load worker={worker} /> },
  {
    title: "Host",
    width: "minmax(5rem, 1fr)",
    isExtra: true,
    cell: ({ hostname }) => <Truncated>{hostname}</Truncated>
  },
  {
    title: "Functions",
    width: "minmax(6rem, 1.5fr)",
    isExtra: true,
    cell: ({ functionIds }) => <Truncated>{functionIds.join(", ")}</Truncated>
  },
  {
    title: "Labels",
    width: "minmax(4rem, 1fr)",
    isExtra: true,
    cell: (worker) => <Truncated>{labelsOf(worker)}</Truncated>
  },
  { title: "Since", width: "6rem", isExtra: true, cell: ({ registeredAt }) => <Time at={registeredAt} /> }
]

export const Workers = () => (
  <>
    <h1>Workers</h1>
    <Listing
      label="Workers"
      live={useWorkers()}
      keyOf={({ id }) => id}
      textOf={(worker) => [worker.id, worker.hostname, ...worker.functionIds, labelsOf(worker)].join(" ")}
      columns={columns}
      empty={
        <Empty command={command("worker functions.ts")}>
          No worker is connected to this environment: runs wait for a worker, unless a push endpoint has their
          function. To start a worker:
        </Empty>
      }
    />
  </>
)

export const Worker = ({ variables: { id = "" } }: { readonly variables: Variables }) => {
  const { error, refresh, value } = useWorkers()
  const running = useRuns(`at ${id}`, { statuses: ["running", "compensating"], limit: 1000 })
  const worker = value?.find((one) => one.id === id)
  const heldRuns = running.value?.runs.filter(({ workerId }) => workerId === id) ?? []
  return (
    <>
      <h1>Worker {id}</h1>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {worker === undefined ? (
        value === undefined ? (
          error === undefined && <Loading />
        ) : (
          <Empty>This worker is not connected. Its runs go to other workers when its leases end.</Empty>
        )
      ) : (
        <>
          <Facts
            facts={[
              ["Runs at the same time", <Load worker={worker} />],
              ["Host", worker.hostname],
              ["Connected", <Time at={worker.registeredAt} exactly />],
              ["Transport", worker.transport],
              ["Labels", labelsOf(worker)]
            ]}
          />
          <section>
            <h2>Its functions</h2>
            <ul>
              {worker.functionIds.map((one) => (
                <li key={one}>
                  <Link to={pathTo("functions", one)}>{one}</Link>
                </li>
              ))}
            </ul>
          </section>
        </>
      )}
      <section>
        <h2>Runs that it holds</h2>
        <RunTable
          label="Runs of the worker"
          live={
            running.value === undefined
              ? running
              : { ...running, value: { ...running.value, runs: heldRuns } }
          }
        >
          The worker holds no run at this moment.
        </RunTable>
      </section>
    </>
  )
}
