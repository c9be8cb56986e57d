/**
 * Rows of bulk operations, and the programs that carry out bulk operations. One transaction stores the actions on a slice of runs
 * and the progress of the operation, so that no run is changed twice, even after a crash. The transaction also checks that the
 * stored progress is still the progress at which the slice began. So each slice takes effect once, even if several engines carry
 * out the same operation.
 */
import { createHash } from "node:crypto"
import type { BulkAction, BulkStatus } from "../../Protocol/Bulk.ts"
import { BulkNotFoundError, InvalidStateError } from "../../Errors.ts"
import { logAccess } from "../Access/AccessLog.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import {
  acrossEnvironments,
  all,
  isolateRow,
  get,
  inEnvironment,
  insert,
  type Program,
  refuse,
  statement,
  write
} from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { BulkRequest, BulkItem, BulkPlace, BulkProgress, BulkRecord, BulkSlice } from "./BulkRecords.ts"
import type { CheckedTarget } from "./EraseRecords.ts"
import { actOnRun, refusalReason } from "./ActOnRun.ts"

/** Maximum number of operations that may run at the same time, in all environments. */
const MAX_RUNNING = 20
/** An ended operation is deleted once this many newer operations have begun. */
const MAX_ENDED_OPERATIONS = 1000
/** Maximum number of operations in a list. */
export const MAX_LISTED_OPERATIONS = 100
/** Maximum number of skipped runs that the progress of an operation names. */
const MAX_EXAMPLES = 20

const COLUMNS =
  "id, environment, action, status, asked, id_count, by_key, place, progress, error, created_at, updated_at, ended_at"

const noProgress: BulkProgress = { matched: 0, done: 0, skipped: {}, examples: [] }

const recordOf = (tx: Transaction, row: Row): BulkRecord => ({
  // only this file and `AdvanceErase.ts` write the columns of JSON
  ...(parseStored(String(row.progress)) as BulkProgress),
  id: String(row.id),
  environment: tx.environmentName(Number(row.environment)),
  action: String(row.action) as BulkRecord["action"],
  status: String(row.status) as BulkStatus,
  request: parseStored(String(row.asked)) as BulkRequest,
  ...(row.id_count == null ? {} : { idCount: Number(row.id_count) }),
  ...(row.by_key === null ? {} : { byKey: String(row.by_key) }),
  ...(row.place === null ? {} : { place: parseStored(String(row.place)) as BulkPlace }),
  ...(row.error === null ? {} : { error: String(row.error) }),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at),
  ...(row.ended_at === null ? {} : { endedAt: Number(row.ended_at) })
})

const COUNT_RUNNING = statement(
  "BulkRows.countRunning",
  "SELECT count(*) AS count FROM bulk_operations WHERE ended_at IS NULL",
  { scans: "the unfinished operations, of which there are few" }
)
const INSERT_OPERATION = statement(
  "BulkRows.insertOperation",
  `INSERT INTO bulk_operations (id, environment, action, status, asked, ids, id_count, by_key, progress, created_at, updated_at)
     VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)`
)
const DELETE_OLD_OPERATIONS = statement(
  "BulkRows.deleteOldOperations",
  "DELETE FROM bulk_operations WHERE key <= ? AND ended_at IS NOT NULL"
)

/** Stores the request of an operation. The engine then carries it out. */
export const insertBulk = inEnvironment(
  "insertBulk",
  function* (
    tx: Transaction,
    environment: string,
    action: BulkRecord["action"],
    request: BulkRequest,
    ids: ReadonlyArray<string> | undefined,
    byKey: string | undefined
  ): Program<BulkRecord, InvalidStateError> {
    if (Number((yield* get(COUNT_RUNNING))?.count) >= MAX_RUNNING) {
      return yield* refuse(
        new InvalidStateError(
          `${MAX_RUNNING} bulk operations are running, and no more can run at once: wait until one has ended, or cancel one`
        )
      )
    }
    const now = tx.now()
    const id = tx.ids.bulk()
    const environmentKey = tx.environment(environment)
    const withTarget =
      request.erase === undefined ? request : { ...request, target: hashOfTarget(id, request.erase, ids) }
    const key = yield* insert(
      INSERT_OPERATION,
      id,
      environmentKey,
      action,
      JSON.stringify(withTarget),
      ids === undefined ? null : JSON.stringify(ids),
      ids?.length ?? null,
      byKey ?? null,
      JSON.stringify(noProgress),
      now,
      now
    )
    yield* write(DELETE_OLD_OPERATIONS, key - MAX_ENDED_OPERATIONS)
    if (!request.dryRun) {
      const { erase: _, ...known } = withTarget
      yield* logAccess(tx, byKey ?? "local", loggedActionOf(action), id, {
        bulk: "begun",
        environment,
        ...known,
        ...(ids === undefined ? {} : { ids: ids.length })
      })
    }
    // reads by the key of the environment: this transaction may have created the environment, and then `findBulk` does not know
    // the name yet
    return recordOf(tx, (yield* get(FIND_OPERATION, id, environmentKey))!)
  },
  (_, action) => `begin to ${action} ${action === "erase" ? "data" : "runs"}`
)

/** The name of the action in the access log. */
const loggedActionOf = (action: BulkRecord["action"]): string =>
  action === "erase" ? "data:erase" : `run:${action}`

/**
 * A hash of the target: all that is kept of the target after the erasure. Somebody who knows the id of the operation and the
 * target can compute the hash again, and so prove that this was the target.
 */
const hashOfTarget = (id: string, target: CheckedTarget, ids: ReadonlyArray<string> | undefined): string =>
  `sha256:${createHash("sha256")
    .update(`${id}\n${JSON.stringify({ ...target, ...(ids === undefined ? {} : { ids }) })}`)
    .digest("hex")}`

const FIND_OPERATION = statement(
  "BulkRows.findOperation",
  `SELECT ${COLUMNS} FROM bulk_operations WHERE id = ? AND environment = ?`
)

export function* findBulk(tx: Transaction, environment: string, id: string): Program<BulkRecord | undefined> {
  const row = yield* get(FIND_OPERATION, id, tx.findEnvironment(environment) ?? null)
  return row === undefined ? undefined : recordOf(tx, row)
}

export const getBulk = inEnvironment("getBulk", findBulk, (_, id) => `read bulk operation ${id}`)

const FIND_IDS = statement("BulkRows.findIds", "SELECT ids FROM bulk_operations WHERE id = ?")

/** The ids of the runs that the request named. */
export const idsOfBulk = inEnvironment(
  "idsOfBulk",
  function* (_tx: Transaction, _environment: string, id: string): Program<ReadonlyArray<string>> {
    const row = yield* get(FIND_IDS, id)
    return row?.ids == null ? [] : (parseStored(String(row.ids)) as ReadonlyArray<string>)
  },
  (_, id) => `read bulk operation ${id}`
)

const LIST_OPERATIONS = statement(
  "BulkRows.listOperations",
  `SELECT ${COLUMNS} FROM bulk_operations WHERE environment = ? ORDER BY key DESC LIMIT ?`
)

/** The operations of the environment, newest first. */
export const listBulk = inEnvironment(
  "listBulk",
  function* (tx: Transaction, environment: string, limit: number): Program<ReadonlyArray<BulkRecord>> {
    const rows = yield* all(LIST_OPERATIONS, tx.findEnvironment(environment) ?? null, limit)
    return rows.map((row) => recordOf(tx, row))
  },
  () => "list bulk operations"
)

const LIST_RUNNING_OPERATIONS = statement(
  "BulkRows.listRunningOperations",
  "SELECT id, environment, action, updated_at FROM bulk_operations WHERE ended_at IS NULL ORDER BY key",
  { scans: "the unfinished operations, of which there are few" }
)

export type RunningBulk = Pick<BulkRecord, "action" | "environment" | "id" | "updatedAt">

/** The unfinished operations of all environments. */
export function* findRunning(tx: Transaction): Program<ReadonlyArray<RunningBulk>> {
  return (yield* all(LIST_RUNNING_OPERATIONS)).map(({ action, environment, id, updated_at }) => ({
    action: String(action) as BulkRecord["action"],
    environment: tx.environmentName(Number(environment)),
    id: String(id),
    updatedAt: Number(updated_at)
  }))
}

export const runningBulk = acrossEnvironments(
  "runningBulk",
  findRunning,
  () => "read the unfinished bulk operations"
)

const UPDATE_END = statement(
  "BulkRows.updateEnd",
  "UPDATE bulk_operations SET status = ?, error = ?, ended_at = ?, updated_at = ? WHERE id = ?"
)

/**
 * Ends an operation early. `by` is the API key for the access log. Does not change an operation that has ended, or that another
 * engine has continued since `from` was read.
 */
export const endBulk = inEnvironment(
  "endBulk",
  function* (
    tx: Transaction,
    environment: string,
    id: string,
    status: "cancelled" | "stopped",
    by: string,
    error?: string,
    from?: BulkRecord
  ): Program<BulkRecord, BulkNotFoundError> {
    const record = yield* findBulk(tx, environment, id)
    if (record === undefined) return yield* refuse(new BulkNotFoundError(id))
    if (record.status !== "running" || (from !== undefined && isOvertaken(record, from))) return record
    const now = tx.now()
    yield* write(UPDATE_END, status, error ?? null, now, now, id)
    if (record.action === "erase") yield* forgetTarget(record)
    const ended: BulkRecord = {
      ...record,
      status,
      ...(error === undefined ? {} : { error }),
      updatedAt: now,
      endedAt: now
    }
    yield* logEnd(tx, ended, by)
    return ended
  },
  (_, id) => `end bulk operation ${id}`
)

const ERASE_TARGET = statement(
  "BulkRows.eraseTarget",
  `UPDATE bulk_operations SET asked = ?, ids = NULL, place = '{"phase":"clean"}' WHERE id = ?`
)

/** Deletes the target of an erasure, which may name the person whose data was erased. Called when nothing more is going to be erased. */
export function* forgetTarget({ request, id }: BulkRecord): Program<void> {
  const { erase: _, ...rest } = request
  yield* write(ERASE_TARGET, JSON.stringify(rest), id)
}

export function* logEnd(tx: Transaction, record: BulkRecord, by = record.byKey ?? "local"): Program<void> {
  const { action, request, done, environment, error, id, kinds, matched, skipped, status } = record
  if (request.dryRun) return
  yield* logAccess(tx, by, loggedActionOf(action), id, {
    bulk: status,
    environment,
    matched,
    done,
    skipped,
    ...(kinds === undefined ? {} : { kinds, target: request.target }),
    ...(error === undefined ? {} : { error })
  })
}

const UPDATE_PROGRESS = statement(
  "BulkRows.updateProgress",
  "UPDATE bulk_operations SET place = ?, progress = ?, status = ?, updated_at = ?, ended_at = ? WHERE id = ?"
)

/** The result for a slice that was dropped, because another engine has continued the operation since the slice began. */
export const OVERTAKEN = "overtaken"

/** Whether the stored progress is no longer the progress of `from`, at which a slice began. */
export const isOvertaken = (stored: BulkRecord, from: BulkRecord): boolean =>
  progressMark(stored) !== progressMark(from)

const progressMark = ({ done, matched, place, updatedAt }: BulkRecord): string =>
  JSON.stringify([place, matched, done, updatedAt])

/**
 * Processes a slice that began at the progress of `from`, and stores the new progress. Returns the operation, which is unchanged
 * if it has ended; `undefined` for an unknown operation, and {@link OVERTAKEN} if another engine has continued the operation
 * since.
 */
export const advanceBulk = inEnvironment(
  "advanceBulk",
  function* (
    tx: Transaction,
    environment: string,
    id: string,
    from: BulkRecord,
    { isLast, items, lookedBackTo, notAllowed, place }: BulkSlice
  ): Program<BulkRecord | undefined | typeof OVERTAKEN> {
    const record = yield* findBulk(tx, environment, id)
    if (record?.status !== "running") return record
    if (isOvertaken(record, from)) return OVERTAKEN
    // `AdvanceErase.ts` carries out erasures
    const { action } = record
    if (action === "erase") return record
    const tally = new Tally(record)
    for (const runId of notAllowed) tally.skip(runId, "not allowed")
    for (const item of items) {
      const why = yield* actOnItem(tx, { ...record, action }, item)
      if (why === NO_LONGER_MATCHES) continue
      if (why === undefined) tally.addDone()
      else tally.skip(item.runId, why)
    }
    const now = tx.now()
    const progress = tally.progress(lookedBackTo)
    yield* write(
      UPDATE_PROGRESS,
      JSON.stringify(place),
      JSON.stringify(progress),
      isLast ? "completed" : "running",
      now,
      isLast ? now : null,
      id
    )
    const advanced: BulkRecord = {
      ...record,
      ...progress,
      place,
      updatedAt: now,
      ...(isLast ? { status: "completed", endedAt: now } : {})
    }
    if (isLast) yield* logEnd(tx, advanced)
    return advanced
  },
  (_, id) => `continue bulk operation ${id}`
)

const NO_LONGER_MATCHES = Symbol("fits no more")

const FIND_RUN_KEY = statement("BulkRows.findRunKey", "SELECT key FROM runs WHERE id = ?")
const FIND_RUN = statement(
  "BulkRows.findRun",
  `SELECT r.key, r.id, r.environment, r.function, r.event, r.status, r.input, r.fork_data, r.system_event, r.parent, r.pause, r.pin, r.lease,
     r.ended_at, r.erased_at, e.erased_at AS e_erased_at FROM runs r LEFT JOIN events e ON e.position = r.event WHERE r.key = ? AND r.environment = ?`
)

/**
 * Acts on one run; in a dry run, only checks whether the action is possible. Returns why the run was skipped; `undefined` when it
 * was not skipped; {@link NO_LONGER_MATCHES} when it no longer matches the filters.
 */
function* actOnItem(
  tx: Transaction,
  { action, request, environment, id }: BulkRecord & { readonly action: BulkAction },
  { endedAt, isHidden, onlyPaused, runId }: BulkItem
): Program<string | undefined | typeof NO_LONGER_MATCHES> {
  if (isHidden === true) return "not found"
  const key = (yield* get(FIND_RUN_KEY, runId))?.key
  if (key == null) return "not found"
  // an earlier try of this slice failed because of this run: the run was noted as damaged, and the slice is repeated
  if (tx.damage.reasonOf("run", Number(key)) !== undefined) return "damaged"
  return yield* isolateRow(
    tx,
    "run",
    Number(key),
    (function* (): Program<string | undefined | typeof NO_LONGER_MATCHES> {
      const row = yield* get(FIND_RUN, key, tx.findEnvironment(environment) ?? null)
      if (row === undefined) return "not found"
      if (endedAt !== undefined && !stillMatches(row, endedAt, action, request)) return NO_LONGER_MATCHES
      if (onlyPaused === true && row.ended_at !== null) return "not allowed"
      const why = yield* refusalReason(tx, action, row, request)
      if (why !== undefined || request.dryRun) return why
      return yield* actOnRun(tx, environment, row, {
        action,
        reason: request.reason ?? `By bulk operation ${id}`,
        ...(request.fromStep === undefined ? {} : { fromStep: request.fromStep }),
        ...(request.version === undefined ? {} : { version: request.version })
      })
    })()
  )
}

/**
 * Whether the run still matches the filters: it may have changed since the search found it. If a filter depends on the end of the
 * run, the run must have the same end as the search saw. The same holds for `resume`: the search checked the permission to resume
 * a paused run, but to resume an ended run is a retry, which needs another permission.
 */
const stillMatches = (
  row: Row,
  endedAt: number | null,
  action: BulkAction,
  { filters: { endedFrom, endedTo, error, statuses, where } = {} }: BulkRequest
): boolean => {
  const dependsOnEnd =
    action === "resume" || [endedFrom, endedTo, error, where].some((filter) => filter !== undefined)
  return (
    (!dependsOnEnd || (row.ended_at === null ? null : Number(row.ended_at)) === endedAt) &&
    (statuses === undefined || statuses.includes(statusIn(row)!))
  )
}

/** Adds the results of a slice to the progress before the slice. */
export class Tally {
  readonly #before: BulkProgress
  readonly #skipped: { [why: string]: number }
  readonly #examples: Array<BulkProgress["examples"][number]>
  #done: number
  readonly #kinds: { [kind: string]: number }
  readonly #rebuild: Set<string>
  #note: string | undefined
  #added = 0

  constructor(before: BulkProgress) {
    this.#kinds = { ...before.kinds }
    this.#rebuild = new Set(before.rebuild)
    this.#note = before.note
    this.#before = before
    this.#skipped = { ...before.skipped }
    this.#examples = [...before.examples]
    this.#done = before.done
  }

  addDone(kind?: string, many = 1): void {
    this.#done += many
    this.#added += many
    if (kind !== undefined) this.#kinds[kind] = (this.#kinds[kind] ?? 0) + many
  }

  rebuild(projection: string): void {
    this.#rebuild.add(projection)
  }

  note(text: string): void {
    this.#note = text
  }

  skip(runId: string, why: string): void {
    this.#skipped[why] = (this.#skipped[why] ?? 0) + 1
    this.#added++
    if (this.#examples.length < MAX_EXAMPLES) this.#examples.push({ runId, why })
  }

  progress(lookedBackTo?: number): BulkProgress {
    return {
      matched: this.#before.matched + this.#added,
      done: this.#done,
      skipped: this.#skipped,
      examples: this.#examples,
      ...(lookedBackTo === undefined ? {} : { lookedBackTo }),
      ...(Object.keys(this.#kinds).length === 0 ? {} : { kinds: this.#kinds }),
      ...(this.#rebuild.size === 0 ? {} : { rebuild: [...this.#rebuild].sort() }),
      ...(this.#note === undefined ? {} : { note: this.#note })
    }
  }
}
