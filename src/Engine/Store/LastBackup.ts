/** The time and the size of the last backup that the engine made, as the database stores them. */
import { safeJsonParse } from "../../Json.ts"
import { acrossEnvironments, get, type Program, statement, write } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

const LAST_BACKUP = "last_backup"

export interface LastBackup {
  /** When the database had the copied state, epoch milliseconds. */
  readonly at: number
  readonly bytes: number
}

const FIND_VALUE = statement("LastBackup.findValue", "SELECT value FROM meta WHERE name = ?")

const PUT_VALUE = statement(
  "LastBackup.putValue",
  "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

/** The last backup that the engine made. Backups that were made by other means are not known. */
export function* readLastBackup(): Program<LastBackup | undefined> {
  const stored = (yield* get(FIND_VALUE, LAST_BACKUP))?.value
  // safe cast: only `noteBackup` writes this row of `meta`
  return stored === undefined ? undefined : safeJsonParse<LastBackup>(String(stored))
}

export const noteBackup = acrossEnvironments(
  "noteBackup",
  function* (_: Transaction, backup: LastBackup): Program<void> {
    yield* write(PUT_VALUE, LAST_BACKUP, JSON.stringify(backup))
  },
  () => "note that a backup was made"
)
