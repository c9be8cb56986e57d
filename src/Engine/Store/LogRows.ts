/** Reading the log from a position on, for all that follows it, and back from its end. */
import type { SQLInputValue } from "node:sqlite"
import { compilePattern, isPattern } from "../../Pattern.ts"
import { LogKind } from "./Events.ts"
import type { LogBackQuery, LogEntry, LogEntryKind, LogPage, LogQuery } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

export const COLUMNS =
  "position, kind, id, name, version, data, metadata, source, timestamp, entity_id, entity_type, entity_version"

export const readLog = (tx: Transaction, query: LogQuery): LogPage => {
  const environment = tx.findEnvironment(query.environment)
  if (environment === undefined) return { entries: [], position: query.after, atEnd: true }
  const { kind, limit, patterns } = query
  const names = kind === undefined ? undefined : namesOf(query)
  // the index finds the rows of names; those of patterns are found by looking
  const accepts = patterns === undefined || names !== undefined ? undefined : anyOf(patterns)
  const entries: Array<LogEntry> = []
  let position = query.after
  let count = 0
  const visit = (row: ReadonlyArray<SQLInputValue>) => {
    position = Number(row[0])
    count++
    if (accepts === undefined || accepts(String(row[NAME]))) entries.push(entryOf(row))
  }
  if (kind === undefined) {
    tx.each(
      `SELECT ${COLUMNS} FROM events WHERE position > ? AND environment = ? AND kind IN (0, 1) ORDER BY position LIMIT ?`,
      [query.after, environment, limit],
      visit
    )
  } else if (names === undefined) {
    tx.each(
      `SELECT ${COLUMNS} FROM events WHERE position > ? AND environment = ? AND kind = ? ORDER BY position LIMIT ?`,
      [query.after, environment, LogKind[kind], limit],
      visit
    )
  } else {
    const one = (name: string) => [environment, LogKind[kind], name, query.after]
    tx.each(byNames(names.length), [...names.flatMap(one), limit], visit)
  }
  return { entries, position, atEnd: count < limit }
}

/** Reads the log backwards, newest first. */
export const readLogBack = (tx: Transaction, query: LogBackQuery): LogPage => {
  const environment = tx.findEnvironment(query.environment)
  if (environment === undefined) return { entries: [], position: 0, atEnd: true }
  const { kind, limit } = query
  const name = nameOf(query)
  const rows =
    kind !== undefined && name !== undefined
      ? tx.all(
          `SELECT ${COLUMNS} FROM events WHERE environment = ? AND kind = ? AND name = ? AND position < ? ORDER BY position DESC LIMIT ?`,
          environment,
          LogKind[kind],
          name,
          query.before,
          limit
        )
      : tx.all(
          `SELECT ${COLUMNS} FROM events WHERE position < ? AND environment = ? AND kind IN (0, 1) ORDER BY position DESC LIMIT ?`,
          query.before,
          environment,
          limit
        )
  const accepts = query.patterns === undefined ? () => true : anyOf(query.patterns)
  return {
    entries: rows
      .map(toEntry)
      .filter((entry) => (kind === undefined || entry.kind === kind) && accepts(entry.name)),
    position: Number(rows.at(-1)?.position ?? 0),
    atEnd: rows.length < limit
  }
}

/** Rows of a kind after a position whose names fit a pattern, counted name by name, which the index makes cheap. */
export const countAfter = (
  tx: Transaction,
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>,
  position: number
): number => {
  let count = 0
  for (const name of fittingNames(tx, environment, kind, patterns)) {
    const found = tx.get(
      "SELECT count(*) AS n FROM events WHERE environment = ? AND kind = ? AND name = ? AND position > ?",
      environment,
      LogKind[kind],
      name,
      position
    )
    count += Number(found?.n ?? 0)
  }
  return count
}

/** Position of the newest row of a kind whose name fits a pattern; 0 when there is none. */
export const newestOf = (
  tx: Transaction,
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>
): number => {
  let newest = 0
  for (const name of fittingNames(tx, environment, kind, patterns)) {
    const found = tx.get(
      "SELECT max(position) AS position FROM events WHERE environment = ? AND kind = ? AND name = ?",
      environment,
      LogKind[kind],
      name
    )
    newest = Math.max(newest, Number(found?.position ?? 0))
  }
  return newest
}

const fittingNames = (
  tx: Transaction,
  environment: number,
  kind: LogEntryKind,
  patterns: ReadonlyArray<string>
): Iterable<string> =>
  patterns.some(isPattern)
    ? namesInLog(tx, environment, LogKind[kind]).filter(anyOf(patterns))
    : new Set(patterns)

/** The names of all rows of a kind: the index leads from each to the next. */
const namesInLog = (tx: Transaction, environment: number, kind: number): Array<string> => {
  const names: Array<string> = []
  for (let name = ""; ;) {
    const row = tx.get(
      "SELECT name FROM events WHERE environment = ? AND kind = ? AND name > ? ORDER BY name LIMIT 1",
      environment,
      kind,
      name
    )
    if (row === undefined) return names
    name = String(row.name)
    names.push(name)
  }
}

/** Names whose rows one statement merges; more of them are found as patterns are. */
const MERGED_NAMES = 8

/** The names that are asked for, if they are few and none of them is a pattern. */
const namesOf = ({ patterns }: Pick<LogQuery, "patterns">): ReadonlyArray<string> | undefined => {
  if (patterns === undefined || patterns.some(isPattern)) return undefined
  const names = [...new Set(patterns)]
  return names.length >= 1 && names.length <= MERGED_NAMES ? names : undefined
}

/** Each name by the index, in order, merged: no row of another name is looked at. */
const byNames = (count: number): string =>
  Array.from(
    { length: count },
    () => `SELECT ${COLUMNS} FROM events WHERE environment = ? AND kind = ? AND name = ? AND position > ?`
  ).join(" UNION ALL ") + " ORDER BY position LIMIT ?"

/** The one name that is asked for, if it is one. */
const nameOf = ({ patterns }: Pick<LogQuery, "patterns">): string | undefined =>
  patterns?.length === 1 && !isPattern(patterns[0] ?? "") ? patterns[0] : undefined

const anyOf = (patterns: ReadonlyArray<string>): ((name: string) => boolean) => {
  const tests = patterns.map(compilePattern)
  return (name) => tests.some((test) => test(name))
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** Index of `name` in {@link COLUMNS}. */
const NAME = 3

/** An entry of the values of {@link COLUMNS}. It is made without copies: there are thousands in a page. */
const entryOf = ([
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
  entityVersion
]: ReadonlyArray<SQLInputValue>): LogEntry => {
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
  if (entityId !== null) {
    entry.entity = { id: String(entityId), type: String(entityType), version: Number(entityVersion) }
  }
  return entry
}

const columns = COLUMNS.split(", ")

/** An entry of a row with at least {@link COLUMNS}. */
export const toEntry = (row: Row): LogEntry => entryOf(columns.map((column) => row[column] ?? null))
