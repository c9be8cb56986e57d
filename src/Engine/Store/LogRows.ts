/** Reading the log from a position on, for all that follows it. */
import { compilePattern, isPattern } from "../../Pattern.ts"
import { entityOfRow, LogKind } from "./Events.ts"
import type { LogEntry, LogPage, LogQuery } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

const COLUMNS =
  "position, id, name, version, data, metadata, source, timestamp, entity_id, entity_type, entity_version"

export const readLog = (tx: Transaction, query: LogQuery): LogPage => {
  const environment = tx.findEnvironment(query.environment)
  if (environment === undefined) return { entries: [], position: query.after, atEnd: true }
  const { patterns, limit } = query
  const name = patterns?.length === 1 && !isPattern(patterns[0] ?? "") ? patterns[0] : undefined
  const rows =
    name === undefined
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
  const accepts = name !== undefined || patterns === undefined ? () => true : anyOf(patterns)
  return {
    entries: rows.filter((row) => accepts(String(row.name))).map(toEntry),
    position: Number(rows.at(-1)?.position ?? query.after),
    atEnd: rows.length < limit
  }
}

const anyOf = (patterns: ReadonlyArray<string>): ((name: string) => boolean) => {
  const tests = patterns.map(compilePattern)
  return (name) => tests.some((test) => test(name))
}

const toEntry = (row: Row): LogEntry => ({
  position: Number(row.position),
  id: String(row.id),
  name: String(row.name),
  version: Number(row.version),
  data: String(row.data),
  ...(row.metadata === null ? {} : { metadata: String(row.metadata) }),
  ...(row.source === null ? {} : { source: String(row.source) }),
  timestamp: Number(row.timestamp),
  ...entityOfRow(row)
})
