/**
 * Idempotency keys: a call with a key that was used within the window returns the first result (guarantee G14). A key belongs to an
 * environment, an operation, and the subject of the operation: the name of the event, the topic, the webhook with the name of its
 * event, or the entity.
 */
import { affected, get, statement, type Program, write, acrossEnvironments } from "../Store/Program.ts"
import { createHash } from "node:crypto"
import { isObject } from "../../Json.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"

/** How long a key is kept, in milliseconds. */
export const WINDOW_MS = 24 * 60 * 60 * 1000

export interface RememberedResult<A> {
  readonly result: A
  /** Whether the first call had other content than this call. */
  readonly conflicting: boolean
}

/** A digest of a call's content. It shows whether a key is used again for something else. */
export interface Fingerprint {
  readonly current: string
  /**
   * The digest that earlier versions of the engine stored. It depends on the order of members, and ignores the version of the
   * event.
   */
  readonly legacy: string
}

/** The content of a call. Its data is a JSON text. */
export interface CallContent {
  readonly name: string
  readonly version?: number
  readonly data: string
}

/** The fingerprint of a call, or of a batch, which has several `contents`. `subject` is what all contents are about. */
export const fingerprint = (
  subject: ReadonlyArray<string>,
  contents: ReadonlyArray<CallContent>
): Fingerprint => ({
  current: hash([
    subject,
    contents.map(({ data, name, version }) => [name, version ?? 1, sortedJson(JSON.parse(data))])
  ]),
  legacy: hash([...subject, ...contents.flatMap(({ data, name }) => [name, data])])
})

const hash = (parts: unknown): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("base64").slice(0, 22)

/** The JSON text of a value, with the members of objects sorted. */
const sortedJson = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(sortedJson).join(",")}]`
  if (!isObject(value)) return JSON.stringify(value)
  return `{${Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${sortedJson(value[key])}`)
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
): Program<RememberedResult<A> | undefined> {
  const row = yield* get(FIND_RESULT, environment, scope, key, tx.settledNow())
  if (row === undefined) return undefined
  // only `remember` writes this column, and the scope of the call determines the type
  return {
    result: parseStored(String(row.result)) as A,
    conflicting: row.fingerprint !== print.current && row.fingerprint !== print.legacy
  }
}

/** The scope of old keys of webhooks. These keys were stored without the id of the webhook; a migration has set this scope. */
const LEGACY_WEBHOOK_SCOPE = "webhook"

/** The first result of a key with the scope {@link LEGACY_WEBHOOK_SCOPE}, if the first call had the same content as this call. */
export function* recallLegacyWebhook<A>(
  tx: Transaction,
  environment: number,
  key: string,
  print: Fingerprint
): Program<RememberedResult<A> | undefined> {
  const earlier = yield* recall<A>(tx, environment, LEGACY_WEBHOOK_SCOPE, key, print)
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
