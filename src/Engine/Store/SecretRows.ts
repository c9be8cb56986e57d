/** Secrets as the database keeps them: sealed. What is inside is known to `Engine/Secrets.ts` only. */
import type { SecretInfo } from "../../Client/Secrets.ts"
import { ALL, type ListPage, type SealedSecret } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

export const putSecret = (
  tx: Transaction,
  environment: string,
  name: string,
  sealed: string
): "created" | "updated" => {
  const now = tx.now()
  const key = tx.environment(environment)
  const known = tx.get("SELECT 1 FROM secrets WHERE environment = ? AND name = ?", key, name) !== undefined
  tx.run(
    `INSERT INTO secrets (environment, name, sealed, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at`,
    key,
    name,
    sealed,
    now,
    now
  )
  return known ? "updated" : "created"
}

export const deleteSecret = (tx: Transaction, environment: string, name: string): boolean => {
  const key = tx.findEnvironment(environment)
  return key !== undefined && tx.run("DELETE FROM secrets WHERE environment = ? AND name = ?", key, name) > 0
}

export const listSecrets = (
  tx: Transaction,
  environment: string,
  { after, limit }: ListPage = ALL
): Array<SecretInfo> => {
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  return tx
    .all(
      "SELECT name, created_at, updated_at FROM secrets WHERE environment = ? AND name > ? ORDER BY name LIMIT ?",
      key,
      after,
      limit
    )
    .map(toInfo)
}

export const findSecret = (tx: Transaction, environment: string, name: string): SecretInfo | undefined => {
  const key = tx.findEnvironment(environment)
  const row =
    key === undefined
      ? undefined
      : tx.get(
          "SELECT name, created_at, updated_at FROM secrets WHERE environment = ? AND name = ?",
          key,
          name
        )
  return row === undefined ? undefined : toInfo(row)
}

const toInfo = (row: Row): SecretInfo => ({
  name: String(row.name),
  createdAt: new Date(Number(row.created_at)).toISOString(),
  updatedAt: new Date(Number(row.updated_at)).toISOString()
})

export const readSecrets = (
  tx: Transaction,
  environment: string,
  names: ReadonlyArray<string>
): Array<SealedSecret> => {
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  return names.flatMap((name) => {
    const row = tx.get("SELECT sealed FROM secrets WHERE environment = ? AND name = ?", key, name)
    return row === undefined ? [] : [{ name, sealed: String(row.sealed) }]
  })
}
