/** The same key within its window returns the first result (guarantee G14). */
import { createHash } from "node:crypto"
import type { Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/** How long a key is remembered, milliseconds. */
export const WINDOW_MS = 24 * 60 * 60 * 1000

export interface Remembered<A> {
  readonly result: A
  /** The first call had other data. */
  readonly conflicting: boolean
}

/** A short stand-in for what a call was about, to notice when a key is used again for something else. */
export const fingerprint = (...parts: ReadonlyArray<string>): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("base64").slice(0, 22)

export const recall = <A>(
  tx: Transaction,
  environment: number,
  operation: string,
  key: string,
  print: string
): Remembered<A> | undefined => {
  const row = tx.get(
    "SELECT fingerprint, result FROM idempotency WHERE environment = ? AND operation = ? AND key = ? AND expires_at > ?",
    environment,
    operation,
    key,
    tx.settledNow()
  )
  if (row === undefined) return undefined
  // written by `remember` below: the caller's operation decides the type
  return { result: parseStored(String(row.result)) as A, conflicting: row.fingerprint !== print }
}

export const remember = (
  tx: Transaction,
  environment: number,
  operation: string,
  key: string,
  print: string,
  result: unknown
): void => {
  tx.run(
    "INSERT OR REPLACE INTO idempotency (environment, operation, key, fingerprint, result, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
    environment,
    operation,
    key,
    print,
    JSON.stringify(result),
    tx.now() + WINDOW_MS
  )
}

/** Forgets keys whose window has passed, at most `limit` of them. */
export const forgetExpired = (tx: Transaction, limit: number): number =>
  tx.run(
    `DELETE FROM idempotency WHERE (environment, operation, key) IN
     (SELECT environment, operation, key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`,
    tx.settledNow(),
    limit
  )
