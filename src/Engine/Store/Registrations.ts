/** Functions in the database: the registry's memory between processes. */
import { createHash } from "node:crypto"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { putSchedules } from "./Schedules.ts"
import type { Transaction } from "./Transaction.ts"

/** Adds functions or replaces their configuration; a change of configuration or code is a new version. */
export const registerFunctions = (
  tx: Transaction,
  environmentName: string,
  registrations: ReadonlyArray<FunctionRegistration>
): void => {
  const environment = tx.environment(environmentName)
  const now = tx.now()
  for (const registration of registrations) {
    const text = JSON.stringify(registration)
    const hash = createHash("sha256").update(text).digest("hex").slice(0, 16)
    const known = tx.get(
      "SELECT key, hash FROM functions WHERE environment = ? AND id = ?",
      environment,
      registration.id
    )
    let key: number
    if (known === undefined) {
      key = tx.insert(
        "INSERT INTO functions (environment, id, registration, hash, version, created_at, updated_at) VALUES (?, ?, ?, ?, 1, ?, ?)",
        environment,
        registration.id,
        text,
        hash,
        now,
        now
      )
    } else {
      key = Number(known.key)
      if (known.hash !== hash) {
        tx.run(
          "UPDATE functions SET registration = ?, hash = ?, version = version + 1, updated_at = ? WHERE key = ?",
          text,
          hash,
          now,
          key
        )
      }
    }
    putSchedules(tx, key, registration)
    tx.markReady(key)
    tx.afterCommit(() => tx.registry.put({ key, environment: environmentName, registration }))
  }
}

/** Fills the registry at start; every function may have runs that are ready. */
export const loadRegistrations = (tx: Transaction): void => {
  const rows = tx.all(
    "SELECT f.key, f.registration, e.name FROM functions f JOIN environments e ON e.key = f.environment ORDER BY f.key"
  )
  for (const row of rows) {
    // written by `registerFunctions`
    const registration = JSON.parse(String(row.registration)) as FunctionRegistration
    tx.registry.put({ key: Number(row.key), environment: String(row.name), registration })
    tx.hot.add(Number(row.key))
  }
}
