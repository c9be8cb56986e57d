/**
 * Idempotency keys: a call with a key that was used within the window returns the first result (guarantee G14). A key belongs to
 * an environment, an operation and its subject: the name of the event, the topic, the webhook and its event, or the entity.
 */
import { affected, get, statement, type Program, write, acrossEnvironments } from "../Store/Program.ts"
import { createHash } from "node:crypto"
import { isObject } from "../../Json.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"

/** How long a key is kept, in milliseconds. */
export const WINDOW_MS = 24 * 60 * 60 * 1000

export interface Remembered<A> {
  readonly result: A
  /** Whether the first call had other content. */
  readonly conflicting: boolean
}

/** A digest of a call's content. It shows whether a key is used again for something else. */
export interface Fingerprint {
  readonly current: string
  /**
   * The digest that earlier versions of the engine stored. It depends on the order of members, and ignores the version of the
   * event.
   */
  readonly earlier: string
}

/** The content of a call. Its data is a JSON text. */
export interface CallContent {
  readonly name: string
  readonly version?: number
  readonly data: string
}

/** The fingerprint of a call, or of a batch, which has several `contents`. `about` is what the contents have in common. */
export const fingerprint = (
  about: ReadonlyArray<string>,
  contents: ReadonlyArray<CallContent>
): Fingerprint => ({
  current: hash([
    about,
    contents.map(({ data, name, version }) => [name, version ?? 1, ordered(JSON.parse(data))])
  ]),
  earlier: hash([...about, ...contents.flatMap(({ data, name }) => [name, data])])
})

const hash = (parts: unknown): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("base64").slice(0, 22)

/** The JSON text of a value, with the members of objects sorted. */
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
  // only `remember` writes this column, and the scope of the call determines the type
  return {
    result: parseStored(String(row.result)) as A,
    conflicting: row.fingerprint !== print.current && row.fingerprint !== print.earlier
  }
}

/** The scope of keys from the time when the webhook of an event was not stored with its key. A migration has set it. */
const UNSCOPED = "webhook"

/** The first result of a key with the scope {@link UNSCOPED}, if the call had the same content. */
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
