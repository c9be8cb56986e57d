/**
 * Starts a bulk operation on the chosen runs, or else on all runs that match the filters. Counts the runs first, asks
 * for confirmation, and opens the page of the operation.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import {
  type BulkAction,
  bulkActions,
  type BulkOperation,
  cancelBulk,
  getBulk,
  startBulk
} from "../../Protocol/Bulk.ts"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { isRunStatus, isTerminal } from "../../RunStatus.ts"
import { capitalized, dryRunResultOf, actionSentences, runCountText } from "../Parts/BulkWords.ts"
import { ask, CallError } from "../Parts/Calls.ts"
import { Dialog, Failure, Link } from "../Parts/Elements.tsx"
import { readEntry, Field } from "../Parts/Fields.tsx"
import { refreshAll } from "../Parts/Live.ts"
import { go, hrefOf } from "../Parts/Router.ts"
import { pathTo } from "../Parts/Rows.tsx"
import { Examples } from "./Bulk.tsx"

/** How often the progress of the count is requested. */
const POLL_MS = 400

/** The runs of the operation: the chosen runs, or the runs that match filters. */
type Selection = { readonly ids: ReadonlyArray<string> } | { readonly filters: ListRuns }

export const BulkStart = ({
  filters,
  ids
}: {
  readonly filters: ListRuns
  readonly ids: ReadonlyArray<string>
}) => {
  const [selected, setSelected] = useState<Selection | undefined>(undefined)
  const close = (): void => setSelected(undefined)
  return (
    <>
      {/* relative times such as 12h are fixed when the dialog opens */}
      <button type="button" onClick={() => setSelected(ids.length > 0 ? { ids } : { filters })}>
        Retry or change {ids.length > 0 ? runCountText(ids.length) : "all"}
      </button>
      {selected !== undefined && (
        <Dialog
          title={`Retry or change ${"ids" in selected ? runCountText(selected.ids.length) : "all runs that match"}`}
          onClose={close}
        >
          {"filters" in selected && Object.keys(selected.filters).length === 0 ? (
            <NoFilters close={close} />
          ) : (
            <BulkForm selection={selected} close={close} />
          )}
        </Dialog>
      )}
    </>
  )
}

const NoFilters = ({ close }: { readonly close: () => void }) => (
  <>
    <p>Set a filter or choose some runs first: without them, the operation would change all runs.</p>
    <div class="actions">
      <button type="button" onClick={close}>
        Close
      </button>
    </div>
  </>
)

/**
 * Filters that leave out runs which were created after `at`. If the given filters ask only for ended runs, also leaves
 * out runs that ended after `at`.
 */
const timeFiltersUntil = ({ status, statuses = [] }: ListRuns, at: string): ListRuns => {
  const wantedStatuses = status === undefined ? statuses : [status]
  const areEnded =
    wantedStatuses.length > 0 && wantedStatuses.every((one) => isRunStatus(one) && isTerminal(one))
  return { createdTo: at, ...(areEnded ? { endedTo: at } : {}) }
}

/** What the user wants to do with the runs. */
interface WantedAction {
  readonly action: BulkAction
  readonly reason?: string
  readonly fromStep?: string
  readonly version?: string
}

/** Asks for the action, counts the runs, and starts the operation once the user confirms it. */
const BulkForm = ({ close, selection }: { readonly selection: Selection; readonly close: () => void }) => {
  const [action, setAction] = useState<BulkAction>("retry")
  const [wanted, setWanted] = useState<WantedAction | undefined>(undefined)
  const [dryRun, setDryRun] = useState<BulkOperation | undefined>(undefined)
  const [error, setError] = useState<CallError | undefined>(undefined)
  const [isBusy, setBusy] = useState(false)
  const isClosed = useRef(false)
  useEffect(() => () => void (isClosed.current = true), [])

  const whileBusy = async (act: () => Promise<void>): Promise<void> => {
    setBusy(true)
    setError(undefined)
    try {
      await act()
    } catch (cause) {
      setError(cause instanceof CallError ? cause : new CallError(String(cause), 0, "BUG"))
    } finally {
      setBusy(false)
    }
  }
  const countRuns = (what: WantedAction): Promise<void> =>
    whileBusy(async () => {
      setDryRun(undefined)
      setWanted(what)
      let operation = await ask(startBulk, { body: { ...what, ...selection, dryRun: true } })
      while (operation.status === "running") {
        // the user has closed the dialog, so the count is not needed
        if (isClosed.current) return void (await ask(cancelBulk, { variables: { id: operation.id } }))
        setDryRun(operation)
        await new Promise((resolve) => setTimeout(resolve, POLL_MS))
        operation = await ask(getBulk, { variables: { id: operation.id } })
      }
      setDryRun(operation)
    })
  const startOperation = (what: WantedAction, { createdAt, matched }: BulkOperation): Promise<void> =>
    whileBusy(async () => {
      // leaves out the runs that were created since the count, and (if only ended runs are wanted) that have ended since
      const { id } = await ask(startBulk, {
        body: {
          ...what,
          ...("ids" in selection
            ? selection
            : { filters: { ...timeFiltersUntil(selection.filters, createdAt), ...selection.filters } })
        }
      })
      close()
      refreshAll()
      go(hrefOf(pathTo("bulk", id), { of: String(matched) }))
    })

  if (wanted !== undefined && dryRun !== undefined && dryRun.status !== "running") {
    const hasCount = dryRun.status === "completed"
    const canBegin = hasCount && dryRun.done > 0
    return (
      <>
        <p>
          {hasCount
            ? dryRunResultOf(dryRun)
            : `The runs could not be counted: ${dryRun.error ?? dryRun.status}`}
        </p>
        {canBegin && <p class="quiet">{actionSentences[dryRun.action]}</p>}
        <Examples operation={dryRun} />
        {error !== undefined && <Failure error={error} isInDialog />}
        {canBegin && (
          <p class="quiet">The operation continues when this page is closed, and can be cancelled.</p>
        )}
        <div class="actions">
          {canBegin && (
            <button
              type="button"
              class={isDangerous(dryRun.action) ? "danger primary" : "primary"}
              disabled={isBusy}
              onClick={() => void startOperation(wanted, dryRun)}
            >
              {capitalized(dryRun.action)} {runCountText(dryRun.done)}
            </button>
          )}
          <button type="button" onClick={() => setDryRun(undefined)}>
            Back
          </button>
          <button type="button" onClick={close}>
            Leave it
          </button>
        </div>
      </>
    )
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        const entered = new FormData(event.currentTarget)
        const reason = readEntry(entered, "reason")
        const fromStep = readEntry(entered, "fromStep")
        const version = readEntry(entered, "version")
        void countRuns({
          action,
          ...(reason === undefined ? {} : { reason }),
          ...(fromStep === undefined ? {} : { fromStep }),
          ...(version === undefined ? {} : { version })
        })
      }}
    >
      <label>
        What
        <select
          name="action"
          value={action}
          onChange={({ currentTarget: { value } }) =>
            setAction(bulkActions.find((one) => one === value) ?? "retry")
          }
        >
          {bulkActions.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </label>
      <p>{actionSentences[action]}</p>
      {(action === "cancel" || action === "pause") && (
        <Field name="reason" label="Reason, which is kept with the runs" value={wanted?.reason} />
      )}
      {(action === "retry" || action === "resume" || action === "fork") && (
        <Field
          name="fromStep"
          label="From the step"
          placeholder={action === "fork" ? "the first" : "where each has stopped"}
          value={wanted?.fromStep}
        />
      )}
      {action === "move" && (
        <Field name="version" label="To the version" placeholder="the latest" value={wanted?.version} />
      )}
      <p class="quiet">The runs are counted first, and none is changed yet.</p>
      {isBusy && (
        <p role="status">
          {dryRun === undefined ? "Counting" : `${runCountText(dryRun.matched)} looked at so far`}
        </p>
      )}
      {error !== undefined && <Failure error={error} isInDialog />}
      <div class="actions">
        <button type="submit" class="primary" disabled={isBusy}>
          Count the runs
        </button>
        <button type="button" onClick={close}>
          Leave it
        </button>
        <Link to="bulk">Bulk operations</Link>
      </div>
    </form>
  )
}

const isDangerous = (action: BulkOperation["action"]): boolean => action === "cancel" || action === "delete"
