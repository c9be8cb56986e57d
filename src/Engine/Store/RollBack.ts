/** Rolls back the transaction of a SQLite connection after an error. */
import type { DatabaseSync } from "node:sqlite"

/** Rolls back the open transaction, unless SQLite has already done so. Never throws. */
export const rollBack = (db: DatabaseSync): void => {
  if (!db.isOpen || !db.isTransaction) return
  try {
    db.exec("ROLLBACK")
  } catch {
    // SQLite has rolled it back itself (disk full, I/O error, damage)
  }
}
