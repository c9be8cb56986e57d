/**
 * The same key within its window returns the first result (guarantee G14). A key belongs to an environment, an operation and
 * what that is about: the name of the event, the topic, the webhook and its event, the entity.
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

/** What a call is about, in short, to notice when a key is used again for something else. */
export interface Fingerprint {
  readonly current: string
  /** As keys from before data was told from data regardless of the order of its members, and version from version, have it. */
  readonly earlier: string
}

/** What a key may be used for again: its data is JSON text. */
export interface Described {
  readonly name: string
  readonly version?: number
  readonly data: string
}

/** `about` is what the things have in common. */
export const fingerprint = (about: ReadonlyArray<string>, things: ReadonlyArray<Described>): Fingerprint => ({
  current: hash([
    about,
    things.map(({ data, name, version }) => [name, version ?? 1, ordered(JSON.parse(data))])
  ]),
  earlier: hash([...about, ...things.flatMap(({ data, name }) => [name, data])])
})

const hash = (parts: unknown): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("base64").slice(0, 22)

/** JSON text of the value that is the same in whatever order its members came. */
const ordered = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(ordered).join(",")}]`
  if (!isObject(value)) return JSON.stringify(value)
  return `{${Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${ordered(value[key])}`)
    .join(",")}}`
}

const RECALL = statement(
  "Idempotency.recall",
  "SELECT fingerprint, result FROM idempotency WHERE environment = ? AND operation = ? AND key = ? AND expires_at > ?"
)

export function* recall<A>(
  tx: Transaction,
  environment: number,
  scope: string,
  key: string,
  print: Fingerprint
): Program<Remembered<A> | undefined> {
  const row = yield* get(RECALL, environment, scope, key, tx.settledNow())
  if (row === undefined) return undefined
  // written by `remember` below: the caller's scope decides the type
  return {
    result: parseStored(String(row.result)) as A,
    conflicting: row.fingerprint !== print.current && row.fingerprint !== print.earlier
  }
}

/** Where a migration has put keys from when it was not stored which webhook an event had come by. */
const UNSCOPED = "webhook"

/** The first result of a key from that time, if it was about the same. */
export function* recallUnscoped<A>(
  tx: Transaction,
  environment: number,
  key: string,
  print: Fingerprint
): Program<Remembered<A> | undefined> {
  const earlier = yield* recall<A>(tx, environment, UNSCOPED, key, print)
  return earlier?.conflicting === true ? undefined : earlier
}

const REMEMBER = statement(
  "Idempotency.remember",
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
  yield* write(REMEMBER, environment, scope, key, print.current, JSON.stringify(result), tx.now() + WINDOW_MS)
}

const FORGET_EXPIRED = statement(
  "Idempotency.forgetExpired",
  `DELETE FROM idempotency WHERE (environment, operation, key) IN
     (SELECT environment, operation, key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`
)

/** Forgets keys whose window has passed, at most `limit` of them. */
export const forgetExpired = acrossEnvironments(
  "deleteExpiredIdempotencyKeys",
  function* (tx: Transaction, limit: number): Program<number> {
    return yield* affected(FORGET_EXPIRED, tx.settledNow(), limit)
  },
  () => "delete old idempotency keys"
)
