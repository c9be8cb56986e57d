/**
 * Idempotency keys: the same key within its window returns the first result (guarantee G14). A key belongs to an environment, an
 * operation and its subject: the name of the event, the topic, the webhook and its event, or the entity.
 */
import { affected, get, statement, type Program, write, acrossEnvironments } from "../Store/Program.ts"
import { createHash } from "node:crypto"
import { isObject } from "../../Json.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"

/** How long a key is remembered, milliseconds. */
export const WINDOW_MS = 24 * 60 * 60 * 1000

export interface Remembered<A> {
  readonly result: A
  /** The first call had other data. */
  readonly conflicting: boolean
}

/** A digest of a call's content, to notice when a key is used again for something else. */
export interface Fingerprint {
  readonly current: string
  /**
   * The digest that earlier versions of the engine stored: it depends on the order of members, and ignores the version of the
   * event.
   */
  readonly earlier: string
}

/** The content of a call: its data is a JSON string. */
export interface CallContent {
  readonly name: string
  readonly version?: number
  readonly data: string
}

/** `about` is what all `things` have in common. */
export const fingerprint = (
  about: ReadonlyArray<string>,
  things: ReadonlyArray<CallContent>
): Fingerprint => ({
  current: hash([
    about,
    things.map(({ data, name, version }) => [name, version ?? 1, ordered(JSON.parse(data))])
  ]),
  earlier: hash([...about, ...things.flatMap(({ data, name }) => [name, data])])
})

const hash = (parts: unknown): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("base64").slice(0, 22)

/** The JSON string of a value with sorted members. */
const ordered = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(ordered).join(",")}]`
  if (!isObject(value)) return JSON.stringify(value)
  return `{${Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${ordered(value[key])}`)
    .join(",")}}`
}

const FIND_RESULT = statement(
  "Idempotency.findResult",
  "SELECT fingerprint, result FROM idempotency WHERE environment = ? AND operation = ? AND key = ? AND expires_at > ?"
)

export function* recall<A>(
  tx: Transaction,
  environment: number,
  scope: string,
  key: string,
  print: Fingerprint
): Program<Remembered<A> | undefined> {
  const row = yield* get(FIND_RESULT, environment, scope, key, tx.settledNow())
  if (row === undefined) return undefined
  // written by `remember` below: the caller's scope determines the type
  return {
    result: parseStored(String(row.result)) as A,
    conflicting: row.fingerprint !== print.current && row.fingerprint !== print.earlier
  }
}

/** The scope of keys from before the webhook of an event was stored, set by a migration. */
const UNSCOPED = "webhook"

/** The first result of such an old key, if it had the same content. */
export function* recallUnscoped<A>(
  tx: Transaction,
  environment: number,
  key: string,
  print: Fingerprint
): Program<Remembered<A> | undefined> {
  const earlier = yield* recall<A>(tx, environment, UNSCOPED, key, print)
  return earlier?.conflicting === true ? undefined : earlier
}

const PUT_RESULT = statement(
  "Idempotency.putResult",
  `INSERT INTO idempotency (environment, operation, key, fingerprint, result, expires_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (environment, operation, key) DO UPDATE
     SET fingerprint = excluded.fingerprint, result = excluded.result, expires_at = excluded.expires_at`
)

export function* remember(
  tx: Transaction,
  environment: number,
  scope: string,
  key: string,
  print: Fingerprint,
  result: unknown
): Program<void> {
  yield* write(
    PUT_RESULT,
    environment,
    scope,
    key,
    print.current,
    JSON.stringify(result),
    tx.now() + WINDOW_MS
  )
}

const DELETE_EXPIRED_RESULTS = statement(
  "Idempotency.deleteExpiredResults",
  `DELETE FROM idempotency WHERE (environment, operation, key) IN
     (SELECT environment, operation, key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`
)

/** Deletes at most `limit` keys whose window has passed. */
export const forgetExpired = acrossEnvironments(
  "forgetExpired",
  function* (tx: Transaction, limit: number): Program<number> {
    return yield* affected(DELETE_EXPIRED_RESULTS, tx.settledNow(), limit)
  },
  () => "delete old idempotency keys"
)
