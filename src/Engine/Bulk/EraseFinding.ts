/** Finds the targets of an erasure: rows of the log page by page, and runs by id. Also checks that the named buckets exist. */
import { compileExpression, type Expression } from "../../Expression.ts"
import { decodeJson } from "../../Json.ts"
import { compilePattern, isPattern } from "../../Pattern.ts"
import { findBucket } from "../Kv/KvBuckets.ts"
import { LogKind } from "../Log/LogRecords.ts"
import { COLUMNS, ENVIRONMENT_COLUMN, entryOf, PAGE_LENGTH } from "../Log/LogRows.ts"
import {
  get,
  inEnvironment,
  type Program,
  type Statement,
  statement,
  type Value,
  visit
} from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { CheckedEvents, CheckedTarget } from "./EraseRecords.ts"

/** How many rows of the log one page reads. */
const ROWS_PER_PAGE = 500

/** Where items are searched. The sources are searched one after the other. */
export type Source =
  | {
      readonly from: "log"
      readonly by: "key" | "entity" | "events" | "messages" | "position"
      readonly events: CheckedEvents
    }
  | { readonly from: "runs" }
  | { readonly from: "ids" }

export const sourcesOf = (
  { events, runs, streams }: CheckedTarget,
  hasIds: boolean
): ReadonlyArray<Source> => [
  ...(events === undefined ? [] : queriesFor(events).map((by): Source => ({ from: "log", by, events }))),
  ...(runs === undefined ? [] : [{ from: "runs" } as const]),
  ...(hasIds ? [{ from: "ids" } as const] : []),
  ...(streams ?? []).map((entityId): Source => ({ from: "log", by: "entity", events: { entityId } }))
]

const queriesFor = ({ entityId, idempotencyKey, name }: CheckedEvents) => {
  if (idempotencyKey !== undefined) return ["key"] as const
  if (entityId !== undefined) return ["entity"] as const
  return name !== undefined && !isPattern(name) ? (["events", "messages"] as const) : (["position"] as const)
}

const EVENT_COLUMNS = `${COLUMNS}, environment, idempotency_key`
const IDEMPOTENCY_KEY = ENVIRONMENT_COLUMN + 1
const page = (name: string, where: string, by = "position") =>
  statement(
    `EraseFinding.${name}`,
    `SELECT ${EVENT_COLUMNS} FROM events ${where} AND erased_at IS NULL ORDER BY ${by} LIMIT ${ROWS_PER_PAGE}`
  )
const BY_KEY = page("byKey", "WHERE environment = ? AND idempotency_key = ? AND position > ?")
const BY_ENTITY = page(
  "byEntity",
  "WHERE environment = ? AND entity_id = ? AND entity_version > ?",
  "entity_version"
)
const BY_NAME = page("byName", "WHERE environment = ? AND kind = ? AND name = ? AND position > ?")
// does not use the index of names, which would find all rows of an environment and sort them for every page
const BY_POSITION = page("byPosition", "NOT INDEXED WHERE position > ?")

/** An event that matches everything but `where`, which is not checked yet. `data` and `metadata` are JSON text. */
interface Candidate {
  readonly position: number
  readonly event: {
    readonly id: string
    readonly name: string
    readonly version: number
    readonly timestamp: number
    readonly data: string
    readonly metadata?: string
    readonly source?: string
    readonly entity?: { readonly id: string; readonly type: string; readonly version: number }
    readonly idempotencyKey?: string
  }
}

/**
 * The next page of rows of a source: the rows after the position `after` (for an entity, after that version) that match
 * everything but `where`. `after` of the result is where the next page begins; absent after the last page.
 */
export const findForErase = inEnvironment(
  "findForErase",
  function* (
    tx: Transaction,
    environmentName: string,
    source: Extract<Source, { readonly from: "log" }>,
    after: number
  ): Program<{ readonly candidates: ReadonlyArray<Candidate>; readonly after?: number }> {
    const environment = tx.findEnvironment(environmentName)
    if (environment === undefined) return { candidates: [] }
    const { by, events } = source
    const [query, values]: readonly [Statement, ReadonlyArray<Value>] =
      by === "key"
        ? [BY_KEY, [environment, events.idempotencyKey!]]
        : by === "entity"
          ? [BY_ENTITY, [environment, events.entityId!]]
          : by === "position"
            ? [BY_POSITION, []]
            : [BY_NAME, [environment, by === "events" ? LogKind.event : LogKind.message, events.name!]]
    const candidates: Array<Candidate> = []
    let last = after
    let rows = 0
    let length = 0
    const accepts = events.name === undefined ? undefined : compilePattern(events.name)
    yield* visit(query, [...values, after], (row) => {
      rows++
      const { position, timestamp, ...entry } = entryOf(row)
      last = by === "entity" ? (entry.entity?.version ?? last) : position
      length += entry.data.length
      const key = row[IDEMPOTENCY_KEY]
      if (
        row[ENVIRONMENT_COLUMN] === environment &&
        timestamp >= (events.since ?? Number.NEGATIVE_INFINITY) &&
        timestamp < (events.until ?? Number.POSITIVE_INFINITY) &&
        (events.entityId === undefined || entry.entity?.id === events.entityId) &&
        (events.entityType === undefined || entry.entity?.type === events.entityType) &&
        (events.idempotencyKey === undefined || key === events.idempotencyKey) &&
        (accepts === undefined || accepts(entry.name))
      ) {
        const { kind: _, ...event } = entry
        candidates.push({
          position,
          event: { ...event, timestamp, ...(key == null ? {} : { idempotencyKey: String(key) }) }
        })
      }
      return length < PAGE_LENGTH
    })
    return { candidates, ...(rows < ROWS_PER_PAGE && length < PAGE_LENGTH ? {} : { after: last }) }
  },
  () => "find the data to erase"
)

/** Whether a candidate matches `where`. */
export const makeWhereMatcher = ({ where }: CheckedEvents): ((candidate: Candidate) => boolean) => {
  if (where === undefined) return () => true
  const expression: Expression = compileExpression(where, ["event"])
  return ({ event: { data, metadata, timestamp, ...event } }) =>
    expression({
      event: {
        ...event,
        data: decodeJson(data) ?? null,
        metadata: decodeJson(metadata) ?? null,
        timestamp: new Date(timestamp).toISOString()
      }
    })
}

const FIND_RUN_KEY = statement(
  "EraseFinding.findRunKey",
  "SELECT key FROM runs WHERE id = ? AND environment = ?"
)

/** The keys of the runs with these ids, and the ids for which there is no run. */
export const keysOfRuns = inEnvironment(
  "keysOfRuns",
  function* (
    tx: Transaction,
    environment: string,
    ids: ReadonlyArray<string>
  ): Program<{ readonly keys: ReadonlyArray<number>; readonly missing: ReadonlyArray<string> }> {
    const keys: Array<number> = []
    const missing: Array<string> = []
    for (const id of ids) {
      const row = yield* get(FIND_RUN_KEY, id, tx.findEnvironment(environment) ?? null)
      if (row === undefined) missing.push(id)
      else keys.push(Number(row.key))
    }
    return { keys, missing }
  },
  () => "find the runs to erase"
)

/** The first of the buckets that does not exist; `undefined` when all exist. */
export const missingBucket = inEnvironment(
  "missingBucket",
  function* (
    tx: Transaction,
    environment: string,
    names: ReadonlyArray<string>
  ): Program<string | undefined> {
    for (const name of names) if ((yield* findBucket(tx, environment, name)) === undefined) return name
    return undefined
  },
  () => "find the buckets of an erase"
)
