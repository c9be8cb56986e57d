/** Functions in the database: the registry's memory between processes. */
import { all, get, insert, statement, type Program, write } from "./Program.ts"
import { createHash } from "node:crypto"
import { FunctionNotFoundError } from "../../Errors.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { putSchedules } from "./Schedules.ts"
import type { Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

const REGISTER_FUNCTIONS = statement(
  "Registrations.registerFunctions",
  "SELECT key, hash, since, deleted_at FROM functions WHERE environment = ? AND id = ?"
)

const REGISTER_FUNCTIONS_2 = statement(
  "Registrations.registerFunctions.2",
  "INSERT INTO functions (environment, id, registration, hash, since, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, 1, ?, ?)"
)

const REGISTER_FUNCTIONS_3 = statement(
  "Registrations.registerFunctions.3",
  "UPDATE functions SET deleted_at = NULL WHERE key = ?"
)

const REGISTER_FUNCTIONS_4 = statement(
  "Registrations.registerFunctions.4",
  "UPDATE functions SET registration = ?, hash = ?, since = ?, version = version + 1, updated_at = ? WHERE key = ?"
)

const REGISTER_FUNCTIONS_5 = statement(
  "Registrations.registerFunctions.5",
  "UPDATE functions SET since = ? WHERE key = ?"
)

/**
 * Adds functions or replaces their configuration; a change of configuration or code is a new version. `startedAt` is when
 * the program that has them was started: what a program that was started later has registered stands. Returns the ids of
 * those that stand.
 */
export function* registerFunctions(
  tx: Transaction,
  environmentName: string,
  registrations: ReadonlyArray<FunctionRegistration>,
  startedAt?: number
): Program<ReadonlyArray<string>> {
  const environment = tx.environment(environmentName)
  const now = tx.now()
  const since = startedAt ?? now
  const standing: Array<string> = []
  for (const registration of registrations) {
    const text = JSON.stringify(registration)
    const hash = createHash("sha256").update(text).digest("hex").slice(0, 16)
    const known = yield* get(REGISTER_FUNCTIONS, environment, registration.id)
    let key: number
    if (known === undefined) {
      key = yield* insert(REGISTER_FUNCTIONS_2, environment, registration.id, text, hash, since, now, now)
    } else {
      key = Number(known.key)
      const deleted = known.deleted_at !== null
      if (deleted) yield* write(REGISTER_FUNCTIONS_3, key)
      if (known.hash !== hash || (tx.damage.wasFound && tx.registry.byKey(key) === undefined)) {
        if (since < Number(known.since) && !deleted) {
          standing.push(registration.id)
          continue
        }
        yield* write(REGISTER_FUNCTIONS_4, text, hash, since, now, key)
      } else if (since > Number(known.since)) {
        yield* write(REGISTER_FUNCTIONS_5, since, key)
      }
    }
    yield* putSchedules(tx, key, registration)
    tx.markReady(key)
    tx.afterCommit(() => tx.registry.put({ key, environment: environmentName, registration }))
  }
  return standing
}

const DELETE_FUNCTION = statement(
  "Registrations.deleteFunction",
  "SELECT key, registration FROM functions WHERE environment = ? AND id = ? AND deleted_at IS NULL"
)

const DELETE_FUNCTION_2 = statement(
  "Registrations.deleteFunction.2",
  "UPDATE functions SET deleted_at = ? WHERE key = ?"
)

const DELETE_FUNCTION_3 = statement(
  "Registrations.deleteFunction.3",
  "DELETE FROM schedules WHERE function = ?"
)

/**
 * Nothing starts the function from now on, until it is registered again; its runs stay as they are. Throws
 * `FunctionNotFoundError`.
 */
export function* deleteFunction(tx: Transaction, environmentName: string, id: string): Program<void> {
  const row = yield* get(DELETE_FUNCTION, tx.environment(environmentName), id)
  if (row === undefined) throw new FunctionNotFoundError(id)
  const key = Number(row.key)
  yield* write(DELETE_FUNCTION_2, tx.now(), key)
  yield* write(DELETE_FUNCTION_3, key)
  // written by `registerFunctions`
  const registration = parseStored(String(row.registration)) as FunctionRegistration
  tx.afterCommit(() => tx.registry.put({ key, environment: environmentName, registration, deleted: true }))
}

const LOAD_REGISTRATIONS = statement(
  "Registrations.loadRegistrations",
  "SELECT f.key, f.registration, f.deleted_at, e.name FROM functions f JOIN environments e ON e.key = f.environment ORDER BY f.key",
  { scans: "functions are held in memory, once at the start" }
)

/** Fills the registry at start; every function may have runs that are ready. */
export function* loadRegistrations(tx: Transaction): Program<void> {
  const rows = yield* all(LOAD_REGISTRATIONS)
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
