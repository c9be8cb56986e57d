/**
 * The access log. It has the changes of keys, organizations, roles and policies, and the operations on functions and runs (single
 * and bulk operations). Each entry names the caller.
 */
import { statement, acrossEnvironments, type Program, all, insert, write } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { AccessLogEntry } from "../Records/AccessRecords.ts"
import { parseStored } from "../Store/StoredJson.ts"

/**
 * Maximum number of entries of each of the two tables of the log. Single operations on functions and runs have a table of their
 * own: they are more frequent, and must not push out changes of keys.
 */
export const MAX_LOG_ENTRIES = 10_000

const READ_ACCESS_LOG = statement(
  "AccessLog.readAccessLog",
  "SELECT * FROM access_log ORDER BY seq DESC LIMIT ?",
  { scans: "newest first, up to a limit" }
)

const READ_OPERATION_LOG = statement(
  "AccessLog.readOperationLog",
  "SELECT * FROM operation_log ORDER BY seq DESC LIMIT ?",
  { scans: "newest first, up to a limit" }
)

/** The newest entries of both tables, newest first. */
export const readAccessLog = acrossEnvironments(
  "readAccessLog",
  function* (_tx: Transaction, limit: number): Program<Array<AccessLogEntry>> {
    const rows = [...(yield* all(READ_ACCESS_LOG, limit)), ...(yield* all(READ_OPERATION_LOG, limit))]
    rows.sort((a, b) => Number(b.at) - Number(a.at))
    return rows.slice(0, limit).map((row) => ({
      at: Number(row.at),
      by: String(row.who),
      action: String(row.action),
      subject: String(row.subject),
      // only `logAccess` and `logOperation` write this column
      details: parseStored(String(row.details)) as { readonly [name: string]: unknown }
    }))
  },
  () => "read the access log"
)

const INSERT_ACCESS_ENTRY = statement(
  "AccessLog.insertAccessEntry",
  "INSERT INTO access_log (at, who, action, subject, details) VALUES (?, ?, ?, ?, ?)"
)

const DELETE_OLD_ACCESS_ENTRIES = statement(
  "AccessLog.deleteOldAccessEntries",
  "DELETE FROM access_log WHERE seq <= ?"
)

/** Logs a change of a key, an organization, a role or a policy, or the beginning or end of a bulk operation. */
export function* logAccess(
  tx: Transaction,
  by: string,
  action: string,
  subject: string,
  details: { readonly [name: string]: unknown }
): Program<void> {
  const seq = yield* insert(INSERT_ACCESS_ENTRY, tx.now(), by, action, subject, JSON.stringify(details))
  yield* write(DELETE_OLD_ACCESS_ENTRIES, seq - MAX_LOG_ENTRIES)
  const { name } = details
  tx.changes.accessLog.push({ by, action, subject, ...(typeof name === "string" ? { name } : {}) })
}

const INSERT_OPERATION_ENTRY = statement(
  "AccessLog.insertOperationEntry",
  "INSERT INTO operation_log (at, who, action, subject, details) VALUES (?, ?, ?, ?, ?)"
)

const DELETE_OLD_OPERATION_ENTRIES = statement(
  "AccessLog.deleteOldOperationEntries",
  "DELETE FROM operation_log WHERE seq <= ?"
)

/** Logs an operation on a function or a run. */
export function* logOperation(
  tx: Transaction,
  by: string,
  action: string,
  subject: string,
  details: { readonly [name: string]: unknown }
): Program<void> {
  const seq = yield* insert(INSERT_OPERATION_ENTRY, tx.now(), by, action, subject, JSON.stringify(details))
  yield* write(DELETE_OLD_OPERATION_ENTRIES, seq - MAX_LOG_ENTRIES)
  tx.changes.accessLog.push({ by, action, subject })
}
