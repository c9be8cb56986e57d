/**
 * The programs that carry out an erasure. First all events and runs to erase are collected in the table `erase_items`: the
 * targets, and the runs that came from them. Then the items are searched for unfinished runs. Only after that is anything
 * changed. Each transaction stores its changes together with the progress. After a crash, the operation continues from that
 * progress. Erasing the same data twice does no harm. The next step is taken only if the stored progress is still the progress
 * that the engine had read.
 */
import { isCompensating } from "../Runs/PauseRun.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { cancelRun } from "../Runs/RunControl.ts"
import { deleteConfig, readConfig } from "../Config/ConfigRows.ts"
import { findBucket } from "../Kv/KvBuckets.ts"
import { operationsByCode } from "../Kv/KvCodes.ts"
import { writeEntries } from "../Kv/KvWrites.ts"
import { LogKind } from "../Log/LogRecords.ts"
import {
  acrossEnvironments,
  affected,
  all,
  isolateRow,
  attempt,
  get,
  inEnvironment,
  type Program,
  statement,
  type Value,
  write
} from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { BulkRecord } from "./BulkRecords.ts"
import { endBulk, findBulk, forgetTarget, isOvertaken, logEnd, OVERTAKEN, Tally } from "./BulkRows.ts"
import type { CheckedKeys, FoundItems, ErasePlace } from "./EraseRecords.ts"
import { sourcesOf } from "./EraseFinding.ts"
import {
  eraseEvent,
  eraseRun,
  eventRow,
  followEvent,
  followRun,
  findUnfinishedRunOf,
  runRow
} from "./EraseRows.ts"

/** How many collected items one transaction looks at. */
const ITEMS_PER_PAGE = 500
/** How many events, runs or keys one transaction erases. */
const ITEMS_PER_ERASE = 25
/** How many collected items one transaction deletes. */
const ITEMS_PER_DELETE = 2000

/**
 * How long the unfinished runs may take to end once they were cancelled, in milliseconds. Runs that are rolling back are not
 * cancelled, and have the same time for the rest of their compensations.
 */
const CANCEL_TIMEOUT_MS = 10 * 60 * 1000

const EVENT = 0
const RUN = 1

// ---------------------------------------------------------------------------------------------------------------------
// Running an operation
// ---------------------------------------------------------------------------------------------------------------------

const FIND_OPERATION = statement("AdvanceErase.findOperation", "SELECT key FROM bulk_operations WHERE id = ?")
const INSERT_ITEM = statement(
  "AdvanceErase.insertItem",
  "INSERT INTO erase_items (operation, kind, key, followed) VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING"
)
const LIST_ITEMS_TO_FOLLOW = statement(
  "AdvanceErase.listItemsToFollow",
  `SELECT kind, key FROM erase_items WHERE operation = ? AND followed = ? ORDER BY kind, key LIMIT ${ITEMS_PER_ERASE}`
)
const MARK_FOLLOWED = statement(
  "AdvanceErase.markFollowed",
  "UPDATE erase_items SET followed = 1 WHERE operation = ? AND kind = ? AND key = ?"
)
const LIST_ITEMS_AFTER = statement(
  "AdvanceErase.listItemsAfter",
  `SELECT key FROM erase_items WHERE operation = ? AND kind = ? AND key > ? ORDER BY key LIMIT ${ITEMS_PER_PAGE}`
)
const DELETE_ITEM = statement(
  "AdvanceErase.deleteItem",
  "DELETE FROM erase_items WHERE operation = ? AND kind = ? AND key = ?"
)
const UPDATE_PROGRESS = statement(
  "AdvanceErase.updateProgress",
  "UPDATE bulk_operations SET place = ?, progress = ?, status = ?, updated_at = ?, ended_at = ? WHERE id = ?"
)
const FIND_STATE_OF_RUN = statement(
  "AdvanceErase.findStateOfRun",
  `SELECT r.id, r.status, r.ended_at, r.pause, r.erased_at, r.parent, p.id AS parent_id, p.status AS parent_status, p.ended_at AS parent_ended_at, p.pause AS parent_pause
     FROM runs r LEFT JOIN runs p ON p.key = r.parent WHERE r.key = ?`
)

/**
 * The unfinished run for a row of {@link FIND_STATE_OF_RUN}: the run itself, or its parent, which has the run's result.
 * `undefined` when both have ended.
 */
const unfinishedRunOf = (
  row: Row
): { readonly id: string; readonly status: string; readonly row: Row } | undefined => {
  if (row.ended_at === null) return { id: String(row.id), status: statusIn(row) ?? "running", row }
  if (row.parent_id === null || row.parent_ended_at !== null) return undefined
  const parent = { status: row.parent_status!, pause: row.parent_pause! }
  return { id: String(row.parent_id), status: statusIn(parent) ?? "running", row: parent }
}

const placeAfterFind = (record: BulkRecord): ErasePlace =>
  hasItems(record) ? { phase: "follow" } : { phase: "keys", index: 0 }

const hasItems = ({ request: { erase }, idCount }: BulkRecord): boolean =>
  erase !== undefined && sourcesOf(erase, idCount !== undefined).length > 0

/**
 * Stores what was found, and takes the next step. Returns the operation, which is unchanged if it has ended; `undefined` for an
 * unknown operation, and {@link OVERTAKEN} if another engine has continued the operation since `from` was read.
 */
export const advanceErase = inEnvironment(
  "advanceErase",
  function* (
    tx: Transaction,
    environment: string,
    id: string,
    from: BulkRecord,
    found?: FoundItems & { readonly missing: ReadonlyArray<string> }
  ): Program<BulkRecord | undefined | typeof OVERTAKEN> {
    const record = yield* findBulk(tx, environment, id)
    if (record?.status !== "running") return record
    if (isOvertaken(record, from)) return OVERTAKEN
    const operation = Number((yield* get(FIND_OPERATION, id))?.key)
    const environmentKey = tx.environment(environment)
    const place = (record.place ?? { phase: "find", source: 0 }) as ErasePlace
    const tally = new Tally(record)
    const next = yield* advance(tx, { record, operation, environment: environmentKey, place, tally }, found)
    if ("error" in next) {
      yield* write(
        UPDATE_PROGRESS,
        JSON.stringify(place),
        JSON.stringify(tally.progress()),
        "running",
        tx.now(),
        null,
        id
      )
      // `endBulk` refuses only unknown operations, and this one exists
      return yield* attempt(
        endBulk.in(tx, environment, id, "stopped", record.byKey ?? "local", next.error)
      ) as Program<BulkRecord>
    }
    return yield* noteErase(tx, record, next, tally)
  },
  (_, id, _from: BulkRecord, _found?: FoundItems & { readonly missing: ReadonlyArray<string> }) =>
    `continue bulk operation ${id}`
)

/** Ends an erasure. Called after the files of the database were cleaned. */
export const finishErase = inEnvironment(
  "finishErase",
  function* (
    tx: Transaction,
    environment: string,
    id: string,
    from: BulkRecord,
    note: string | undefined
  ): Program<BulkRecord | undefined | typeof OVERTAKEN> {
    const record = yield* findBulk(tx, environment, id)
    if (record?.status !== "running") return record
    if (isOvertaken(record, from)) return OVERTAKEN
    const tally = new Tally(record)
    if (note !== undefined) tally.note(note)
    return yield* noteErase(tx, record, { phase: "clean" }, tally, true)
  },
  (_, id, _from: BulkRecord, _note: string | undefined) => `end bulk operation ${id}`
)

function* noteErase(
  tx: Transaction,
  record: BulkRecord,
  place: ErasePlace,
  tally: Tally,
  hasEnded = false
): Program<BulkRecord> {
  const now = tx.now()
  const progress = tally.progress()
  yield* write(
    UPDATE_PROGRESS,
    JSON.stringify(place),
    JSON.stringify(progress),
    hasEnded ? "completed" : "running",
    now,
    hasEnded ? now : null,
    record.id
  )
  if (place.phase === "clean") yield* forgetTarget(record)
  const updated: BulkRecord = {
    ...record,
    ...progress,
    place,
    updatedAt: now,
    ...(hasEnded ? { status: "completed", endedAt: now } : {})
  }
  if (hasEnded) yield* logEnd(tx, updated)
  return updated
}

interface StepContext {
  readonly record: BulkRecord
  readonly operation: number
  readonly environment: number
  readonly place: ErasePlace
  readonly tally: Tally
}

function* advance(
  tx: Transaction,
  at: StepContext,
  found: (FoundItems & { readonly missing: ReadonlyArray<string> }) | undefined
): Program<ErasePlace | { readonly error: string }> {
  const { environment, operation, place, record, tally } = at
  switch (place.phase) {
    case "find": {
      if (found === undefined) return placeAfterFind(record)
      for (const id of found.missing) tally.skip(id, "not found")
      for (const position of found.events) yield* write(INSERT_ITEM, operation, EVENT, position)
      for (const run of found.runs) yield* collectRun(at, run)
      return found.place.phase === "follow" ? placeAfterFind(record) : found.place
    }
    case "follow": {
      const { isLate, of } = place
      const lateMark = isLate === undefined ? {} : { isLate }
      const items =
        of === undefined ? yield* all(LIST_ITEMS_TO_FOLLOW, operation, 0) : [{ kind: EVENT, key: of.event }]
      for (const { key, kind } of items) {
        if (kind === EVENT) {
          const followed = yield* followEvent(operation, Number(key), environment, of)
          if (followed !== undefined) return { phase: "follow", ...lateMark, of: followed }
        } else {
          const row = yield* runRow(Number(key), environment)
          if (row !== undefined) yield* followRun(operation, row)
        }
        yield* write(MARK_FOLLOWED, operation, kind!, key!)
      }
      if (items.length > 0) return { phase: "follow", ...lateMark }
      return isLate ? { phase: "erase" } : { phase: "check", after: 0, live: 0 }
    }
    case "check":
      return yield* check(at, place)
    case "cancel":
      return yield* cancel(tx, at, place)
    case "await": {
      const { after, live } = yield* findUnfinishedRun(operation, place.after ?? 0)
      if (live === undefined)
        return after === undefined ? { phase: "erase" } : { phase: "await", since: place.since, after }
      if (tx.now() - place.since < CANCEL_TIMEOUT_MS)
        return { phase: "await", since: place.since, after, isWaiting: true }
      return {
        error: `run ${live} did not end within 10 minutes after the erase had cancelled the unfinished runs, so nothing was erased: \`ironflow runs why ${live}\` says what the run waits for. Erase again once it has ended`
      }
    }
    case "erase": {
      const items = yield* all(LIST_ITEMS_TO_FOLLOW, operation, 1)
      for (const { key, kind } of items) {
        yield* write(DELETE_ITEM, operation, kind!, key!)
        yield* kind === EVENT ? eraseEventItem(tx, at, Number(key)) : eraseRunItem(tx, at, Number(key))
      }
      if (items.length > 0) return place
      // items may have been added in the meantime
      return (yield* all(LIST_ITEMS_TO_FOLLOW, operation, 0)).length > 0
        ? { phase: "follow", isLate: true }
        : { phase: "keys", index: 0 }
    }
    case "keys":
      return yield* eraseNextKeys(tx, at, place)
    case "forget":
      return (yield* deleteSomeItems(operation)) > 0 ? place : { phase: "clean" }
    case "clean":
      return place
  }
}

/** Collects a run that is a target, and the event that started the run, because the event has the run's input. */
function* collectRun({ environment, operation, tally }: StepContext, key: number): Program<void> {
  const row = yield* runRow(key, environment)
  if (row === undefined) return
  if (row.erased_at !== null) return tally.skip(String(row.id), "erased already")
  yield* write(INSERT_ITEM, operation, RUN, key)
  if (row.input === null) yield* write(INSERT_ITEM, operation, EVENT, row.event!)
}

const FIND_RUN_ITEM = statement(
  "AdvanceErase.findRunItem",
  "SELECT 1 FROM erase_items WHERE operation = ? AND kind = 1 AND key = ?"
)

function* isItem(operation: number, run: Value): Program<boolean> {
  return (yield* get(FIND_RUN_ITEM, operation, run)) !== undefined
}

/** Maximum number of unfinished runs that the error names. */
const MAX_NAMED_RUNS = 3

/**
 * Searches a page of the collected runs for unfinished ones. In a dry run, also counts what would be erased: first the runs,
 * then the events.
 */
function* check(
  { environment, operation, record, tally }: StepContext,
  place: Extract<ErasePlace, { readonly phase: "check" }>
): Program<ErasePlace | { readonly error: string }> {
  const { cancel, dryRun } = record.request
  if (place.kind === "events") {
    const items = yield* all(LIST_ITEMS_AFTER, operation, EVENT, place.after)
    for (const { key } of items) {
      const row = yield* eventRow(Number(key), environment)
      if (row !== undefined && row.erased_at === null)
        tally.addDone(row.kind === LogKind.message ? "messages" : "events")
    }
    return items.length < ITEMS_PER_PAGE
      ? { phase: "keys", index: 0 }
      : { ...place, after: Number(items.at(-1)!.key) }
  }
  let { live } = place
  const seen = new Set<string>()
  const items = yield* all(LIST_ITEMS_AFTER, operation, RUN, place.after)
  for (const { key } of items) {
    const row = yield* get(FIND_STATE_OF_RUN, key!)
    if (row === undefined) continue
    const unfinished = unfinishedRunOf(row)
    // an ended run whose unfinished parent is also an item does not count as unfinished: only the parent counts
    if (unfinished === undefined || (row.ended_at !== null && (yield* isItem(operation, row.parent!)))) {
      if (dryRun && row.erased_at === null) tally.addDone("runs")
      continue
    }
    if (seen.has(unfinished.id)) continue
    seen.add(unfinished.id)
    live++
    if (dryRun && cancel === true) tally.addDone("runs")
    else if (cancel !== true) tally.skip(unfinished.id, unfinished.status)
  }
  const last = items.at(-1)
  if (last !== undefined && items.length === ITEMS_PER_PAGE)
    return { phase: "check", after: Number(last.key), live }
  if (dryRun) return { phase: "check", kind: "events", after: 0, live }
  if (live === 0) return { phase: "erase" }
  if (cancel === true) return { phase: "cancel", after: 0 }
  const named = tally
    .progress()
    .examples.filter(({ why }) => why !== "not found" && why !== "erased already")
    .slice(0, MAX_NAMED_RUNS)
    .map(({ runId, why }) => `${runId} (${why})`)
  return {
    error:
      `${live} ${live === 1 ? "run has" : "runs have"} not ended: ${named.join(", ")}${live > MAX_NAMED_RUNS ? " and others" : ""}. ` +
      `So nothing was erased. Wait until ${live === 1 ? "it has ended, or let the erase cancel it" : "they have ended, or let the erase cancel them"}, with the option \`cancel: true\` (\`--cancel\` on the command line)`
  }
}

function* cancel(
  tx: Transaction,
  { operation, record }: StepContext,
  place: Extract<ErasePlace, { readonly phase: "cancel" }>
): Program<ErasePlace> {
  const items = (yield* all(LIST_ITEMS_AFTER, operation, RUN, place.after)).slice(0, ITEMS_PER_ERASE)
  for (const { key } of items) {
    const row = yield* get(FIND_STATE_OF_RUN, key!)
    const live = row === undefined ? undefined : unfinishedRunOf(row)
    // a run that is rolling back ends by itself
    if (live === undefined || isCompensating(live.row)) continue
    yield* attempt(
      cancelRun.in(
        tx,
        record.environment,
        live.id,
        `Cancelled by erase operation ${record.id}, which erases the data of the run`
      )
    )
  }
  return items.length < ITEMS_PER_ERASE
    ? { phase: "await", since: tx.now() }
    : { phase: "cancel", after: Number(items.at(-1)!.key) }
}

/**
 * `live`: the id of the first unfinished run of a page; absent if there is none. `after`: the key after which the next page
 * begins; absent after the last page.
 */
function* findUnfinishedRun(
  operation: number,
  from: number
): Program<
  { readonly live: string; readonly after: number } | { readonly live?: never; readonly after?: number }
> {
  let after = from
  const items = yield* all(LIST_ITEMS_AFTER, operation, RUN, from)
  for (const { key } of items) {
    const row = yield* get(FIND_STATE_OF_RUN, key!)
    const live = row === undefined ? undefined : unfinishedRunOf(row)
    if (live !== undefined) return { live: live.id, after }
    after = Number(key)
  }
  return items.length < ITEMS_PER_PAGE ? {} : { after }
}

function* eraseEventItem(
  tx: Transaction,
  { environment, operation, tally }: StepContext,
  position: number
): Program<void> {
  yield* isolateRow(
    tx,
    "event",
    position,
    (function* (): Program<void> {
      const row = yield* eventRow(position, environment)
      if (row === undefined || row.erased_at !== null) return
      // a run of the event may have been retried, or started again, since the items were collected
      const open = yield* findUnfinishedRunOf(operation, position, environment)
      if (open !== undefined) return tally.skip(open, "was started again")
      for (const projection of yield* eraseEvent(tx, row)) tally.rebuild(projection)
      tally.addDone(row.kind === LogKind.message ? "messages" : "events")
    })()
  )
}

function* eraseRunItem(tx: Transaction, { environment, tally }: StepContext, key: number): Program<void> {
  yield* isolateRow(
    tx,
    "run",
    key,
    (function* (): Program<void> {
      const row = yield* runRow(key, environment)
      if (row === undefined || row.erased_at !== null) return
      const state = yield* get(FIND_STATE_OF_RUN, key)
      const live = state === undefined ? undefined : unfinishedRunOf(state)
      if (live !== undefined) return tally.skip(live.id, live.status)
      yield* eraseRun(tx, row)
      tally.addDone("runs")
    })()
  )
}

const LIST_KV_KEYS = statement(
  "AdvanceErase.listKvKeys",
  `SELECT key, operation FROM kv_entries WHERE bucket = ? AND key >= ? ORDER BY key LIMIT ${ITEMS_PER_ERASE + 1}`
)

function* eraseNextKeys(
  tx: Transaction,
  { record, tally }: StepContext,
  place: Extract<ErasePlace, { readonly phase: "keys" }>
): Program<ErasePlace> {
  const { dryRun, erase = {} } = record.request
  const keysToErase = erase.keys?.[place.index]
  if (keysToErase !== undefined) {
    const next = yield* eraseKeys(tx, record, keysToErase, place.after, tally)
    return next === undefined
      ? { phase: "keys", index: place.index + 1 }
      : { phase: "keys", index: place.index, after: next }
  }
  const name = erase.configs?.[place.index - (erase.keys?.length ?? 0)]
  if (name === undefined) return dryRun ? { phase: "forget" } : { phase: "clean" }
  const config = yield* attempt(readConfig.in(tx, record.environment, name))
  if (!(config instanceof Error)) {
    if (!dryRun) yield* deleteConfig.in(tx, record.environment, name)
    tally.addDone("configs")
  }
  return { phase: "keys", index: place.index + 1 }
}

/**
 * Purges some KV keys with their history; in a dry run only counts them. Returns the last of these keys; `undefined` when there
 * are no more.
 */
function* eraseKeys(
  tx: Transaction,
  { request, environment }: BulkRecord,
  { bucket: name, key, prefix = "" }: CheckedKeys,
  after: string | undefined,
  tally: Tally
): Program<string | undefined> {
  const bucket = yield* findBucket(tx, environment, name)
  if (bucket === undefined) return undefined
  const rows = (yield* all(LIST_KV_KEYS, bucket.key, after ?? key ?? prefix)).filter(
    (row) => row.key !== after
  )
  const matchingRows = rows
    .slice(0, ITEMS_PER_ERASE)
    .filter((row) => (key === undefined ? String(row.key).startsWith(prefix) : row.key === key))
  for (const row of matchingRows) {
    // a key that was purged or has expired is skipped; a deleted key is not skipped, because it may still have a history
    if (Number(row.operation) > operationsByCode.indexOf("delete")) continue
    if (!request.dryRun)
      yield* attempt(writeEntries.in(tx, environment, name, [{ key: String(row.key), purge: true }]))
    tally.addDone("keys")
  }
  const last = matchingRows.at(-1)
  return key !== undefined || matchingRows.length < ITEMS_PER_ERASE || last === undefined
    ? undefined
    : String(last.key)
}

const DELETE_SOME_ITEMS = statement(
  "AdvanceErase.deleteSomeItems",
  `DELETE FROM erase_items WHERE operation = ? AND (kind, key) IN
     (SELECT kind, key FROM erase_items WHERE operation = ? LIMIT ${ITEMS_PER_DELETE})`
)

function* deleteSomeItems(operation: number): Program<number> {
  return yield* affected(DELETE_SOME_ITEMS, operation, operation)
}

const FIND_NEXT_OPERATION = statement(
  "AdvanceErase.findNextOperation",
  "SELECT operation FROM erase_items WHERE operation > ? ORDER BY operation LIMIT 1"
)
const FIND_OPEN_OPERATION = statement(
  "AdvanceErase.findOpenOperation",
  "SELECT 1 FROM bulk_operations WHERE key = ? AND ended_at IS NULL"
)

/** Deletes some of the collected items of ended operations. Returns `true` when items were deleted: there may be more. */
export const deleteItemsOfEnded = acrossEnvironments(
  "deleteItemsOfEnded",
  function* (): Program<boolean> {
    for (let last = 0; ;) {
      const row = yield* get(FIND_NEXT_OPERATION, last)
      if (row === undefined) return false
      last = Number(row.operation)
      if ((yield* get(FIND_OPEN_OPERATION, last)) === undefined) return (yield* deleteSomeItems(last)) > 0
    }
  },
  () => "delete the work data of ended erases"
)
