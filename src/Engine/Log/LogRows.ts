/** Reads the log from a position on, for everything that follows the log, or backward from a position. Appends rows to the log. */
import {
  get,
  statement,
  type Program,
  type Value,
  variant,
  visit,
  inEnvironment,
  insert
} from "../Store/Program.ts"
import { compilePattern, isPattern } from "../../Pattern.ts"
import {
  LogKind,
  type LogBackPage,
  type LogBackQuery,
  type LogEntry,
  type LogEntryKind,
  type LogPage,
  type LogQuery
} from "./LogRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { EventEntity } from "../../Event.ts"

export const COLUMNS =
  "position, kind, id, name, version, data, metadata, source, timestamp, entity_id, entity_type, entity_version, trace"

/** Reads the log from a position on. `Changes.logEnd` says when there are newer rows. */
export const readLog = inEnvironment(
  "readLog",
  function* (tx: Transaction, query: LogQuery): Program<LogPage> {
    const environment = tx.findEnvironment(query.environment)
    if (environment === undefined) return { entries: [], position: query.after, atEnd: true }
    const { after, kind, limit, patterns } = query
    const names = kind === undefined ? undefined : namesOf(query)
    if (kind !== undefined && names !== undefined)
      return yield* readNames(environment, kind, names, after, limit)

    const accepts = patterns === undefined ? () => true : anyOf(patterns)
    const entries: Array<LogEntry> = []
    let position = after
    let count = 0
    let length = 0
    yield* visit(variant("LogRows.readLog", selectForward), [after, limit], (row) => {
      position = Number(row[POSITION_COLUMN])
      count++
      if (
        row[ENVIRONMENT_COLUMN] !== environment ||
        (kind !== undefined && row[KIND_COLUMN] !== LogKind[kind])
      )
        return true
      if (row[ERASED_AT_COLUMN] !== null) return true
      if (!accepts(String(row[NAME]))) return true
      const entry = entryOf(row)
      entries.push(entry)
      length += entry.data.length
      return length < PAGE_LENGTH
    })
    const isCut = length >= PAGE_LENGTH
    const page = { entries, position, atEnd: !isCut && count < limit }
    if (isCut) return page
    if (
      kind === undefined ||
      patterns === undefined ||
      page.atEnd ||
      entries.length * SPARSE_ROWS_PER_MATCH > count
    )
      return page

    const matching = yield* matchingNamesIfFew(environment, kind, patterns)
    if (matching === undefined) return page
    const nextPage = yield* readNames(environment, kind, matching, position, limit)
    return { ...nextPage, entries: [...entries, ...nextPage.entries] }
  },
  () => "read the log"
)

/**
 * SQL: rows of the log, by position. `NOT INDEXED` here and in `selectBackward` avoids the index of names: by this index, all rows
 * of an environment would be found and sorted for every page.
 */
const selectForward = `SELECT ${COLUMNS}, environment, erased_at FROM events NOT INDEXED WHERE position > ? ORDER BY position LIMIT ?`
const selectBackward = `SELECT ${COLUMNS}, environment, erased_at FROM events NOT INDEXED WHERE position < ? ORDER BY position DESC LIMIT ?`
const selectBackwardByName = `SELECT ${COLUMNS}, environment, erased_at FROM events WHERE environment = ? AND kind = ? AND name = ? AND position < ? ORDER BY position DESC LIMIT ?`

/**
 * The length of a page, in characters of data. A page ends with the entry that reaches this length, because a page is in memory as
 * a whole.
 */
export const PAGE_LENGTH = 2 * 1024 * 1024

/** Matches are sparse when there are this many rows or more for each match: then the next matches are found by the index of names. */
const SPARSE_ROWS_PER_MATCH = 4

/** Reads the log backward, newest first. */
export const readLogBack = inEnvironment(
  "readLogBack",
  function* (tx: Transaction, query: LogBackQuery): Program<LogBackPage> {
    const environment = tx.findEnvironment(query.environment)
    if (environment === undefined) return { entries: [], position: 0, atEnd: true, rowsRead: 0 }
    const { before, kind, limit } = query
    const name = kind === undefined ? undefined : nameOf(query)
    const accepts = query.patterns === undefined ? () => true : anyOf(query.patterns)
    const entries: Array<LogEntry> = []
    let position = before
    let count = 0
    let length = 0
    const [rows, values] =
      kind !== undefined && name !== undefined
        ? ([selectBackwardByName, [environment, LogKind[kind], name, before, limit]] as const)
        : ([selectBackward, [before, limit]] as const)
    yield* visit(variant("LogRows.readLogBack", rows), [...values], (row) => {
      position = Number(row[POSITION_COLUMN])
      count++
      if (
        row[ENVIRONMENT_COLUMN] !== environment ||
        (kind !== undefined && row[KIND_COLUMN] !== LogKind[kind])
      )
        return true
      if (row[ERASED_AT_COLUMN] !== null) return true
      if (!accepts(String(row[NAME]))) return true
      const entry = entryOf(row)
      entries.push(entry)
      length += entry.data.length
      return length < PAGE_LENGTH
    })
    return { entries, position, atEnd: length < PAGE_LENGTH && count < limit, rowsRead: count }
  },
  () => "read the log"
)

/** A page of events ends when the data and metadata of its events have more characters than this. */
const EVENTS_PAGE_LENGTH = 4 * 1024 * 1024

/** The rows of the events with these keys: as many as fit on one page, but at least one. */
export function* readPage(
  keys: ReadonlyArray<Row>,
  read: (key: Row) => Program<Row | undefined>
): Program<ReadonlyArray<Row>> {
  const rows: Array<Row> = []
  let length = 0
  for (const key of keys) {
    const row = yield* read(key)
    if (row === undefined) continue
    rows.push(row)
    length += String(row.data).length + String(row.metadata ?? "").length
    if (length > EVENTS_PAGE_LENGTH) break
  }
  return rows
}

const COUNT_EVENTS_AFTER = statement(
  "LogRows.countEventsAfter",
  "SELECT count(*) AS n FROM events WHERE environment = ? AND kind = ? AND name = ? AND position > ?"
)

/**
 * Counts the rows of a kind after a position whose names match one of the patterns. Counts the rows of each name alone, because the
 * index makes that cheap.
 */
export function* countAfter(
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>,
  position: number
): Program<number> {
  let count = 0
  for (const name of yield* matchingNames(environment, kind, patterns)) {
    const found = yield* get(COUNT_EVENTS_AFTER, environment, LogKind[kind], name, position)
    count += Number(found?.n ?? 0)
  }
  return count
}

const FIND_NEWEST_EVENT_OF_NAME = statement(
  "LogRows.findNewestEventOfName",
  "SELECT max(position) AS position FROM events WHERE environment = ? AND kind = ? AND name = ?"
)

/** The position of the newest row of a kind whose name matches one of the patterns; 0 when there is none. */
export function* newestPosition(
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>
): Program<number> {
  let newest = 0
  for (const name of yield* matchingNames(environment, kind, patterns)) {
    const found = yield* get(FIND_NEWEST_EVENT_OF_NAME, environment, LogKind[kind], name)
    newest = Math.max(newest, Number(found?.position ?? 0))
  }
  return newest
}

function* matchingNames(
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>
): Program<ReadonlySet<string>> {
  const fitting = new Set<string>()
  yield* namesInLog(environment, kind, patterns, (name, fits) => {
    if (fits) fitting.add(name)
    return true
  })
  return fitting
}

/** Reads the next rows that have one of the names. Uses the index, so no rows of other names are read. */
function* readNames(
  environment: number,
  kind: LogEntryKind,
  names: ReadonlyArray<string>,
  after: number,
  limit: number
): Program<LogPage> {
  const entries: Array<LogEntry> = []
  let position = after
  let count = 0
  let length = 0
  if (names.length > 0) {
    const values = names.flatMap((name) => [environment, LogKind[kind], name, after])
    yield* visit(variant("LogRows.readNames", selectByNames(names.length)), [...values, limit], (row) => {
      position = Number(row[POSITION_COLUMN])
      count++
      if (row[ERASED_AT_COLUMN] !== null) return true
      const entry = entryOf(row)
      entries.push(entry)
      length += entry.data.length
      return length < PAGE_LENGTH
    })
  }
  return {
    entries,
    position,
    atEnd: count < limit && length < PAGE_LENGTH
  }
}

/** Maximum number of names in the log that are checked for a match. */
const MAX_CHECKED_NAMES = 128
/** Maximum number of matching names whose rows one statement merges: the more names, the longer the statement takes. */
const MAX_MATCHING_NAMES = 32

/** The names in the log that match a pattern; `undefined` if they are many, or would take long to find. */
function* matchingNamesIfFew(
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>
): Program<ReadonlyArray<string> | undefined> {
  const fitting = new Set<string>()
  let checked = 0
  let areTooMany = false
  const onName = (name: string, fits: boolean): boolean => {
    areTooMany = checked++ === MAX_CHECKED_NAMES || fitting.size > MAX_MATCHING_NAMES
    if (!areTooMany && fits) fitting.add(name)
    return !areTooMany
  }
  yield* namesInLog(environment, kind, patterns, onName)
  return areTooMany || fitting.size > MAX_MATCHING_NAMES ? undefined : [...fitting]
}

const FIND_NEXT_NAME = statement(
  "LogRows.findNextName",
  "SELECT name FROM events WHERE environment = ? AND kind = ? AND name > ? ORDER BY name LIMIT 1"
)

/**
 * Calls `onName` with each of `patterns` that is a plain name, and with all names in the log that begin as a pattern does, whether
 * they match or not. The index leads from each name to the next. The same name may be visited twice. The visit ends when `onName`
 * returns `false`.
 */
function* namesInLog(
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>,
  onName: (name: string, fits: boolean) => boolean
): Program<void> {
  const accepts = anyOf(patterns)
  for (const name of patterns) if (!isPattern(name) && !onName(name, true)) return
  for (const prefix of new Set(patterns.filter(isPattern).map(prefixOf))) {
    for (let name = prefix; ;) {
      const row = yield* get(FIND_NEXT_NAME, environment, LogKind[kind], name)
      if (row === undefined || !String(row.name).startsWith(prefix)) break
      name = String(row.name)
      if (!onName(name, accepts(name))) return
    }
  }
}

/** The prefix that is common to all names that match a pattern. */
const prefixOf = (pattern: string): string => {
  const tokens = pattern.split(".")
  const fixed = tokens.slice(
    0,
    tokens.findIndex((token) => token === "*" || token === ">")
  )
  return fixed.map((token) => `${token}.`).join("")
}

/**
 * The rows of up to this many requested names are always merged by the index. A request with more names is handled like one with
 * patterns.
 */
const MAX_MERGED_NAMES = 8

/** The requested names, if they are few and none of them is a pattern; otherwise `undefined`. */
const namesOf = ({ patterns }: Pick<LogQuery, "patterns">): ReadonlyArray<string> | undefined => {
  if (patterns === undefined || patterns.some(isPattern)) return undefined
  const names = [...new Set(patterns)]
  return names.length >= 1 && names.length <= MAX_MERGED_NAMES ? names : undefined
}

/**
 * SQL: finds the rows of each name by the index, so that no rows of other names are read, and merges them in the order of the log.
 */
const selectByNames = (count: number): string =>
  Array.from(
    { length: count },
    () =>
      `SELECT ${COLUMNS}, environment, erased_at FROM events WHERE environment = ? AND kind = ? AND name = ? AND position > ?`
  ).join(" UNION ALL ") + " ORDER BY position LIMIT ?"

/** The requested name, if exactly one is requested, and it is no pattern. */
const nameOf = ({ patterns }: Pick<LogQuery, "patterns">): string | undefined =>
  patterns?.length === 1 && !isPattern(patterns[0] ?? "") ? patterns[0] : undefined

const anyOf = (patterns: ReadonlyArray<string>): ((name: string) => boolean) => {
  const tests = patterns.map(compilePattern)
  return (name) => tests.some((test) => test(name))
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** The places of columns in {@link COLUMNS}. `environment` comes after them. */
export const POSITION_COLUMN = 0
export const KIND_COLUMN = 1
const NAME = 3
export const TIMESTAMP_COLUMN = 8
export const ENVIRONMENT_COLUMN = 13
/**
 * The place of `erased_at`, after the other columns. Everything that follows the log skips erased rows, since they have no content
 * any more.
 */
const ERASED_AT_COLUMN = 14

/** Makes an entry from the values of {@link COLUMNS}, without copying objects, because a page has thousands of rows. */
export const entryOf = ([
  position,
  kind,
  id,
  name,
  version,
  data,
  metadata,
  source,
  timestamp,
  entityId,
  entityType,
  entityVersion,
  trace
]: ReadonlyArray<Value>): LogEntry => {
  const entry: Writable<LogEntry> = {
    position: Number(position),
    kind: kind === LogKind.event ? "event" : "message",
    id: String(id),
    name: String(name),
    version: Number(version),
    data: String(data),
    timestamp: Number(timestamp)
  }
  if (metadata !== null) entry.metadata = String(metadata)
  if (source !== null) entry.source = String(source)
  if (trace !== null) entry.trace = String(trace)
  if (entityId !== null) {
    entry.entity = { id: String(entityId), type: String(entityType), version: Number(entityVersion) }
  }
  return entry
}

const columns = COLUMNS.split(", ")

/** Makes an entry from a row with at least {@link COLUMNS}. */
export const toEntry = (row: Row): LogEntry => entryOf(columns.map((column) => row[column] ?? null))

const INSERT_LOG_ROW = statement(
  "LogRows.insertLogRow",
  "INSERT INTO events (environment, kind, id, name, version, data, metadata, source, idempotency_key, timestamp, entity_id, entity_type, entity_version, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

export function* insertLogRow(
  tx: Transaction,
  environment: number,
  kind: number,
  input: {
    readonly name: string
    readonly version: number
    readonly data: string
    readonly metadata?: string
    readonly source?: string
    readonly idempotencyKey?: string
    readonly entity?: EventEntity
    readonly timestamp?: number
    readonly trace?: string
  }
): Program<{ readonly id: string; readonly position: number; readonly timestamp: number }> {
  const timestamp = input.timestamp ?? tx.now()
  const id = kind === LogKind.event ? tx.ids.event() : tx.ids.message()
  const position = yield* insert(
    INSERT_LOG_ROW,
    environment,
    kind,
    id,
    input.name,
    input.version,
    input.data,
    input.metadata ?? null,
    input.source ?? null,
    input.idempotencyKey ?? null,
    timestamp,
    input.entity?.id ?? null,
    input.entity?.type ?? null,
    input.entity?.version ?? null,
    input.trace ?? null
  )
  tx.changes.logEnd = position
  return { id, position, timestamp }
}
