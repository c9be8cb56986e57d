/** The event that a run sees: the event in the log that started it, or an event made up for a run without one. */
import type { Row } from "../Store/Transaction.ts"
import type { JobEvent } from "../../Protocol/Worker.ts"

import { entityOfRow, viewOfRow } from "../Log/EventViews.ts"

import { InvalidStateError, StoreError } from "../../Errors.ts"
import { statement, type Program, type Value, get } from "../Store/Program.ts"
import { type EventView, eventView } from "../Functions/Registry.ts"

/** SQL: the data of the event `e` that started the run `r`. A fork may have data of its own. */
export const EVENT_DATA = "coalesce(r.fork_data, e.data)"

/**
 * When the input of the run in a row was erased, in epoch milliseconds; `undefined` if it was not. The column `e_erased_at` has
 * the time when the event that started the run was erased.
 */
export const erasedAt = ({ e_erased_at, erased_at, input }: Row): number | undefined => {
  const at = erased_at ?? (input === null ? e_erased_at : undefined)
  return at == null ? undefined : Number(at)
}

/**
 * The error for a call that would continue or fork an erased run, whose data is gone. `participle` is a word such as `retried`.
 */
export const refusalOfErased = (runId: string, at: number, participle: string): InvalidStateError =>
  new InvalidStateError(
    `Run ${runId} was erased at ${new Date(at).toISOString()} and cannot be ${participle}: neither its data nor the results of its steps are there any more. Emit a new event for a new run.`
  )

/** The event that the handler gets. Throws a `StoreError` when the log no longer has the event that started the run. */
export const jobEvent = (row: Row): JobEvent => {
  checkEvent(row)
  return row.input === null
    ? {
        id: String(row.e_id),
        name: String(row.e_name),
        version: Number(row.e_version),
        data: String(row.e_data),
        timestamp: Number(row.e_timestamp),
        ...(row.e_metadata === null ? {} : { metadata: String(row.e_metadata) }),
        ...(row.e_source === null ? {} : { source: String(row.e_source) }),
        ...(row.e_key === null ? {} : { idempotencyKey: String(row.e_key) }),
        ...entityOfRow(row),
        ...(row.e_trace == null ? {} : { trace: String(row.e_trace) })
      }
    : {
        id: invocationEventId(String(row.id)),
        ...nameAndSource(row.system_event),
        version: 1,
        data: String(row.input),
        timestamp: Number(row.created_at),
        ...(row.trace == null ? {} : { trace: String(row.trace) })
      }
}

/** The name and the source of the event that is made up for a run without an event in the log. */
const nameAndSource = (systemEvent: Value | undefined): { readonly name: string; readonly source: string } =>
  systemEvent == null
    ? { name: "ironflow.invoke", source: "invoke" }
    : { name: String(systemEvent), source: "system" }

/** The id of the event that an invoked run sees. This event is not in the log. */
export const invocationEventId = (runId: string): string => `evt_${runId.slice(runId.indexOf("_") + 1)}`

/** Throws a `StoreError` for the problem that {@link problemWithEvent} finds, if any. */
export const checkEvent = (row: Row): void => {
  const problem = problemWithEvent(row)
  if (problem !== undefined) throw new StoreError(problem, { code: "STORE_CORRUPT" })
}

/**
 * The problem of a run whose event is missing from the log; `undefined` when there is no problem. The row must have `e_id` and
 * `e_data`. The log must have the event of a run, except for an invoked run, which has an input of its own.
 */
export const problemWithEvent = (row: Row): string | undefined =>
  row.input === null && (row.e_id === null || row.e_data === null)
    ? "the event that has started the run cannot be found, since the log is damaged"
    : undefined

const FIND_RUN_WITH_EVENT = statement(
  "RunEvent.findRunWithEvent",
  "SELECT r.id AS run_id, r.input, r.fork_data, r.system_event, r.created_at, e.* FROM runs r LEFT JOIN events e ON e.position = r.event WHERE r.key = ?"
)

/** The triggering event of a run. */
export function* triggerView(run: number): Program<EventView> {
  const row = yield* get(FIND_RUN_WITH_EVENT, run)
  if (row === undefined) throw new Error(`no run with key ${run}`)
  checkEvent({ input: row.input!, e_id: row.id!, e_data: row.data! })
  return row.input === null
    ? viewOfRow(row.fork_data === null ? row : { ...row, data: row.fork_data! })
    : invocationView(String(row.run_id), String(row.input), Number(row.created_at), row.system_event)
}

/**
 * The event of a run that has no event in the log, because another run invoked it, or a system event started it. The data is the
 * input of the run.
 */
export const invocationView = (
  runId: string,
  input: string,
  createdAt: number,
  systemEvent?: Value
): EventView =>
  eventView({
    id: invocationEventId(runId),
    ...nameAndSource(systemEvent),
    version: 1,
    data: input,
    timestamp: createdAt
  })
