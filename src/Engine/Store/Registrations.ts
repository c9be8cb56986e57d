/** Functions in the database: the registry's memory between processes. */
import { createHash } from "node:crypto"
import { FunctionNotFoundError } from "../../Errors.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { putSchedules } from "./Schedules.ts"
import type { Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/**
 * Adds functions or replaces their configuration; a change of configuration or code is a new version. `startedAt` is when
 * the program that has them was started: what a program that was started later has registered stands. Returns the ids of
 * those that stand.
 */
export const registerFunctions = (
  tx: Transaction,
  environmentName: string,
  registrations: ReadonlyArray<FunctionRegistration>,
  startedAt?: number
): ReadonlyArray<string> => {
  const environment = tx.environment(environmentName)
  const now = tx.now()
  const since = startedAt ?? now
  const standing: Array<string> = []
  for (const registration of registrations) {
    const text = JSON.stringify(registration)
    const hash = createHash("sha256").update(text).digest("hex").slice(0, 16)
    const known = tx.get(
      "SELECT key, hash, since, deleted_at FROM functions WHERE environment = ? AND id = ?",
      environment,
      registration.id
    )
    let key: number
    if (known === undefined) {
      key = tx.insert(
        "INSERT INTO functions (environment, id, registration, hash, since, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, 1, ?, ?)",
        environment,
        registration.id,
        text,
        hash,
        since,
        now,
        now
      )
    } else {
      key = Number(known.key)
      const deleted = known.deleted_at !== null
      if (deleted) tx.run("UPDATE functions SET deleted_at = NULL WHERE key = ?", key)
      if (known.hash !== hash || (tx.damage.wasFound && tx.registry.byKey(key) === undefined)) {
        if (since < Number(known.since) && !deleted) {
          standing.push(registration.id)
          continue
        }
        tx.run(
          "UPDATE functions SET registration = ?, hash = ?, since = ?, version = version + 1, updated_at = ? WHERE key = ?",
          text,
          hash,
          since,
          now,
          key
        )
      } else if (since > Number(known.since)) {
        tx.run("UPDATE functions SET since = ? WHERE key = ?", since, key)
      }
    }
    putSchedules(tx, key, registration)
    tx.markReady(key)
    tx.afterCommit(() => tx.registry.put({ key, environment: environmentName, registration }))
  }
  return standing
}

/**
 * Nothing starts the function from now on, until it is registered again; its runs stay as they are. Throws
 * `FunctionNotFoundError`.
 */
export const deleteFunction = (tx: Transaction, environmentName: string, id: string): void => {
  const row = tx.get(
    "SELECT key, registration FROM functions WHERE environment = ? AND id = ? AND deleted_at IS NULL",
    tx.environment(environmentName),
    id
  )
  if (row === undefined) throw new FunctionNotFoundError(id)
  const key = Number(row.key)
  tx.run("UPDATE functions SET deleted_at = ? WHERE key = ?", tx.now(), key)
  tx.run("DELETE FROM schedules WHERE function = ?", key)
  // written by `registerFunctions`
  const registration = parseStored(String(row.registration)) as FunctionRegistration
  tx.afterCommit(() => tx.registry.put({ key, environment: environmentName, registration, deleted: true }))
}

/** Fills the registry at start; every function may have runs that are ready. */
export const loadRegistrations = (tx: Transaction): void => {
  const rows = tx.all(
    "SELECT f.key, f.registration, f.deleted_at, e.name FROM functions f JOIN environments e ON e.key = f.environment ORDER BY f.key"
  )
  for (const row of rows) {
    tx.hot.add(Number(row.key))
    let registration: FunctionRegistration
    try {
      // written by `registerFunctions`
      registration = parseStored(row.registration) as FunctionRegistration
    } catch (error) {
      // its runs wait until a worker registers it again
      tx.damage.unreadable(`Function ${row.key} of environment "${row.name}"`, error)
      continue
    }
    tx.registry.put({
      key: Number(row.key),
      environment: String(row.name),
      registration,
      ...(row.deleted_at === null ? {} : { deleted: true })
    })
  }
}
