/** Bulk operations: what they do to many runs, their progress, and why runs were skipped. */
import { type BulkOperation, cancelBulk, getBulk, listBulk } from "../../Protocol/Bulk.ts"
import {
  capitalized,
  dryRunResultOf,
  actionSentences,
  pastParticiples,
  resultOf,
  runCountText
} from "../Parts/BulkWords.ts"
import { ask } from "../Parts/Calls.ts"
import { Action, Copy, count, Empty, Failure, Link, Loading, Status, Value } from "../Parts/Elements.tsx"
import { refreshAll, useLive } from "../Parts/Live.ts"
import { place, type Variables } from "../Parts/Router.ts"
import { Truncated, Facts, Listing, oneLine, pathTo, Table } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { duration, Time } from "../Parts/Time.tsx"

const targetTextOf = ({ action, filters, ids }: BulkOperation): string =>
  action === "erase" ? "not shown" : ids === undefined ? oneLine(filters) : `${runCountText(ids)} by id`

const titleOf = ({ action, dryRun }: BulkOperation): string =>
  `${capitalized(action)}${dryRun ? " (dry run)" : ""}`

export const BulkOperations = () => {
  const live = useLive("bulk operations", async (signal) => (await ask(listBulk, { signal })).operations, {
    everyMs: 2000
  })
  return (
    <>
      <h1>Bulk operations</h1>
      <Listing
        label="Bulk operations"
        live={live}
        keyOf={({ id }) => id}
        textOf={(one) => `${one.id} ${one.action} ${one.status} ${one.by} ${targetTextOf(one)}`}
        columns={[
          {
            title: "Operation",
            width: "minmax(7rem, 0.8fr)",
            cell: (one) => <Link to={pathTo("bulk", one.id)}>{titleOf(one)}</Link>
          },
          { title: "Status", width: "7.5rem", cell: ({ status }) => <BulkStatus status={status} /> },
          {
            title: "Done",
            width: "6rem",
            cell: ({ done: number, matched }) => (
              <span class="number">
                {count(number)} of {count(matched)}
              </span>
            )
          },
          {
            title: "Runs",
            width: "minmax(6rem, 2fr)",
            isExtra: true,
            cell: (one) => <Truncated>{targetTextOf(one)}</Truncated>
          },
          {
            title: "By",
            width: "minmax(5rem, 0.7fr)",
            isExtra: true,
            cell: ({ by }) => <Truncated>{by}</Truncated>
          },
          { title: "Begun", width: "6rem", isExtra: true, cell: ({ createdAt }) => <Time at={createdAt} /> }
        ]}
        empty={
          <Empty command={command('runs retry --status failed --error "card declined"')}>
            There are no bulk operations yet. Start one on the Runs page, for all runs that match its filters,
            or with the command:
          </Empty>
        }
      />
    </>
  )
}

const BulkStatus = ({ status }: { readonly status: BulkOperation["status"] }) =>
  status === "stopped" ? <Status state="failed">stopped</Status> : <Status state={status} />

export const OneBulk = ({ variables: { id = "" } }: { readonly variables: Variables }) => {
  const {
    error,
    refresh,
    value: operation
  } = useLive(`bulk ${id}`, (signal) => ask(getBulk, { variables: { id }, signal }))
  if (operation === undefined)
    return (
      <>
        <h1>Bulk operation</h1>
        {error === undefined ? <Loading /> : <Failure error={error} retry={refresh} />}
      </>
    )
  const { action, dryRun, filters, matched, status } = operation
  const isRunning = status === "running"
  const countedRuns = Number(place.value.query.get("of") ?? 0)
  return (
    <>
      <div class="title">
        <h1>
          {titleOf(operation)} <BulkStatus status={status} />
        </h1>
        <div class="actions">
          {isRunning && (
            <Action
              label="Cancel the operation"
              isDangerous
              confirm="After this, the operation changes no more runs. Changes made so far stay."
              act={async () => {
                const ended = await ask(cancelBulk, { variables: { id } })
                refreshAll()
                return ended.status === "cancelled"
                  ? "The operation changes no more runs."
                  : `The operation had already ended (${ended.status}).`
              }}
            />
          )}
          <Copy text={command("bulk", "get", id)} label="Copy as CLI" />
        </div>
      </div>
      {error !== undefined && <Failure error={error} retry={refresh} />}
      {operation.error !== undefined && (
        <div class="failure" role="alert">
          <p>
            <strong>The operation could not continue.</strong> {operation.error}
          </p>
        </div>
      )}
      <p class="why" role="status">
        {isRunning
          ? `${runCountText(matched, action)} looked at so far, of which ${count(operation.done)} ${dryRun ? "can be " : ""}${pastParticiples[action]}.`
          : dryRun
            ? dryRunResultOf(operation)
            : resultOf(operation)}
      </p>
      {isRunning && (
        <>
          {/* `countedRuns`: the matching runs, counted before the start; `matched`: how many of them were reached */}
          <progress
            aria-label="Progress"
            {...(countedRuns > 0 ? { max: Math.max(countedRuns, matched), value: matched } : {})}
          />
          <p class="quiet">
            The operation continues when this page is closed, and after a restart of the engine.
            {operation.lookedBackTo !== undefined && (
              <>
                {" "}
                So far, it has searched back to <Time at={operation.lookedBackTo} exactly />.
              </>
            )}
          </p>
        </>
      )}
      <p class="quiet">{actionSentences[action]}</p>
      <Facts
        facts={[
          ["Operation", <span class="mono">{id}</span>],
          ["Begun", <Time at={operation.createdAt} exactly />],
          ["Ended", operation.endedAt === undefined ? undefined : <Time at={operation.endedAt} exactly />],
          [
            "Took",
            operation.endedAt === undefined
              ? undefined
              : duration(Date.parse(operation.endedAt) - Date.parse(operation.createdAt))
          ],
          ["By", operation.by],
          ["Reason", operation.reason],
          ["From step", operation.fromStep],
          ["Version", operation.version],
          ["Runs", operation.ids === undefined ? undefined : `${runCountText(operation.ids)} by id`]
        ]}
      />
      {matched > operation.done && <Skipped operation={operation} />}
      <Examples operation={operation} />
      {filters !== undefined && (
        <section>
          <h2>Runs that match</h2>
          <Value value={filters} name="Filters" />
        </section>
      )}
    </>
  )
}

const Skipped = ({ operation: { skipped } }: { readonly operation: BulkOperation }) => (
  <section>
    <h2>Runs that stay as they were</h2>
    <Table
      label="Runs that stay as they were, by reason"
      items={Object.entries(skipped)}
      keyOf={([why]) => why}
      columns={[
        { title: "Why", width: "", cell: ([why]) => why },
        { title: "Runs", width: "", cell: ([, number]) => <span class="number">{count(number)}</span> }
      ]}
    />
  </section>
)

/** Some of the runs that the operation did not change or, after a dry run, would not change. */
export const Examples = ({ operation: { examples } }: { readonly operation: BulkOperation }) =>
  examples.length === 0 ? null : (
    <details>
      <summary>
        {examples.length === 1
          ? "A run that stays as it is"
          : `${examples.length} runs that stay as they are`}
      </summary>
      <Table
        label="Examples of runs that stay as they are"
        items={examples}
        keyOf={({ runId }) => runId}
        columns={[
          {
            title: "Run",
            width: "",
            cell: ({ runId }) => (
              <Link to={pathTo("runs", runId)} class="mono">
                {runId}
              </Link>
            )
          },
          { title: "Why", width: "", cell: ({ why }) => why }
        ]}
      />
    </details>
  )
