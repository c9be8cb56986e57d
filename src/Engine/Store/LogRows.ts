/** Reading the log from a position on, for all that follows it, and back from its end. */
import { compilePattern, isPattern } from "../../Pattern.ts"
import { entityOfRow, LogKind } from "./Events.ts"
import type { LogBackQuery, LogEntry, LogPage, LogQuery } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

export const COLUMNS =
  "position, kind, id, name, version, data, metadata, source, timestamp, entity_id, entity_type, entity_version"

export const readLog = (tx: Transaction, query: LogQuery): LogPage => {
  const environment = tx.findEnvironment(query.environment)
  if (environment === undefined) return { entries: [], position: query.after, atEnd: true }
  const { patterns, limit } = query
  const name = nameOf(query)
  const rows =
    query.kind === undefined
      ? tx.all(
          `SELECT ${COLUMNS} FROM events WHERE position > ? AND environment = ? AND kind IN (0, 1) ORDER BY position LIMIT ?`,
          query.after,
          environment,
          limit
        )
      : name === undefined
        ? tx.all(
            `SELECT ${COLUMNS} FROM events WHERE position > ? AND environment = ? AND kind = ? ORDER BY position LIMIT ?`,
            query.after,
            environment,
            LogKind[query.kind],
            limit
          )
        : tx.all(
            `SELECT ${COLUMNS} FROM events WHERE environment = ? AND kind = ? AND name = ? AND position > ? ORDER BY position LIMIT ?`,
            environment,
            LogKind[query.kind],
            name,
            query.after,
            limit
          )
  const accepts = patterns === undefined ? () => true : anyOf(patterns)
  return {
    entries: rows.filter((row) => accepts(String(row.name))).map(toEntry),
    position: Number(rows.at(-1)?.position ?? query.after),
    atEnd: rows.length < limit
  }
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

/** The one name that is asked for, if it is one. */
const nameOf = ({ patterns }: Pick<LogQuery, "patterns">): string | undefined =>
  patterns?.length === 1 && !isPattern(patterns[0] ?? "") ? patterns[0] : undefined

const anyOf = (patterns: ReadonlyArray<string>): ((name: string) => boolean) => {
  const tests = patterns.map(compilePattern)
  return (name) => tests.some((test) => test(name))
}

export const toEntry = (row: Row): LogEntry => ({
  position: Number(row.position),
  kind: Number(row.kind) === LogKind.event ? "event" : "message",
  id: String(row.id),
  name: String(row.name),
  version: Number(row.version),
  data: String(row.data),
  ...(row.metadata === null ? {} : { metadata: String(row.metadata) }),
  ...(row.source === null ? {} : { source: String(row.source) }),
  timestamp: Number(row.timestamp),
  ...entityOfRow(row)
})
