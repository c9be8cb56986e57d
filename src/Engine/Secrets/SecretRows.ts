/** Rows of secrets, whose values are sealed. Only `Secrets.ts` can open them. */
import type { SecretInfo } from "../../Protocol/Secrets.ts"
import { affected, all, get, inEnvironment, type Row, statement, write } from "../Store/Program.ts"
import { ALL, type ListPage } from "../Pages.ts"
import type { Transaction } from "../Store/Transaction.ts"

const FIND_NAME = statement("SecretRows.findName", "SELECT 1 FROM secrets WHERE environment = ? AND name = ?")

const PUT_SECRET = statement(
  "SecretRows.putSecret",
  `INSERT INTO secrets (environment, name, sealed, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)
   ON CONFLICT (environment, name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at`
)

const DELETE_SECRET = statement(
  "SecretRows.deleteSecret",
  "DELETE FROM secrets WHERE environment = ? AND name = ?"
)

const LIST_SECRETS = statement(
  "SecretRows.listSecrets",
  "SELECT name, created_at, updated_at FROM secrets WHERE environment = ? AND name > ? ORDER BY name LIMIT ?"
)

const FIND_SECRET = statement(
  "SecretRows.findSecret",
  "SELECT name, created_at, updated_at FROM secrets WHERE environment = ? AND name = ?"
)

const READ_SEALED = statement(
  "SecretRows.readSealed",
  "SELECT sealed FROM secrets WHERE environment = ? AND name = ?"
)

/** Stores a secret, or replaces it. */
export const putSecret = inEnvironment(
  "putSecret",
  function* (tx: Transaction, environment: string, name: string, sealed: string) {
    const key = tx.environment(environment)
    const existed = (yield* get(FIND_NAME, key, name)) !== undefined
    yield* write(PUT_SECRET, key, name, sealed, tx.now())
    return existed ? ("updated" as const) : ("created" as const)
  },
  (_, name) => `store secret "${name}"`
)

/** Deletes a secret. Returns whether it existed. */
export const deleteSecret = inEnvironment(
  "deleteSecret",
  function* (tx: Transaction, environment: string, name: string) {
    const key = tx.findEnvironment(environment)
    return key !== undefined && (yield* affected(DELETE_SECRET, key, name)) > 0
  },
  (_, name) => `delete secret "${name}"`
)

export const listSecrets = inEnvironment(
  "listSecrets",
  function* (tx: Transaction, environment: string, { after, limit }: ListPage = ALL) {
    const key = tx.findEnvironment(environment)
    return key === undefined ? [] : (yield* all(LIST_SECRETS, key, after, limit)).map(toInfo)
  },
  () => "list secrets"
)

export const findSecret = inEnvironment(
  "findSecret",
  function* (tx: Transaction, environment: string, name: string) {
    const key = tx.findEnvironment(environment)
    const row = key === undefined ? undefined : yield* get(FIND_SECRET, key, name)
    return row === undefined ? undefined : toInfo(row)
  },
  (_, name) => `read secret "${name}"`
)

/** The sealed values of the secrets with these names. Secrets that do not exist are left out. */
export const readSecrets = inEnvironment(
  "readSecrets",
  function* (tx: Transaction, environment: string, names: ReadonlyArray<string>) {
    const key = tx.findEnvironment(environment)
    const found: Array<SealedSecret> = []
    if (key === undefined) return found
    for (const name of names) {
      const row = yield* get(READ_SEALED, key, name)
      if (row !== undefined) found.push({ name, sealed: String(row.sealed) })
    }
    return found
  },
  () => "read secrets"
)

const toInfo = (row: Row): SecretInfo => ({
  name: String(row.name),
  createdAt: new Date(Number(row.created_at)).toISOString(),
  updatedAt: new Date(Number(row.updated_at)).toISOString()
})

interface SealedSecret {
  readonly name: string
  readonly sealed: string
}
