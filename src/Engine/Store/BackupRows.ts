/** The last backup that the engine has made, as the database remembers it. */
import { safeJsonParse } from "../../Json.ts"
import { acrossEnvironments, get, type Program, statement, write } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

const LAST_BACKUP = "last_backup"

export interface LastBackup {
  /** Of the moment whose state it is, epoch milliseconds. */
  readonly at: number
  readonly bytes: number
}

const READ = statement("BackupRows.read", "SELECT value FROM meta WHERE name = ?")

const NOTE = statement(
  "BackupRows.note",
  "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

/** Nothing is known of copies that others make. */
export function* readLastBackup(): Program<LastBackup | undefined> {
  const stored = (yield* get(READ, LAST_BACKUP))?.value
  // written by `noteBackup`
  return stored === undefined ? undefined : safeJsonParse<LastBackup>(String(stored))
}

export const noteBackup = acrossEnvironments(
  "noteBackup",
  function* (_: Transaction, backup: LastBackup): Program<void> {
    yield* write(NOTE, LAST_BACKUP, JSON.stringify(backup))
  },
  () => "note that a backup was made"
)
