/** Rows of API keys. */
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { KeyRecord, NewKey, NewSecret } from "../Records/AccessRecords.ts"
import { parseStored } from "../Store/StoredJson.ts"
import { acrossEnvironments, type Program, refuse, statement, get, write } from "../Store/Program.ts"
import {
  type RoleNotFoundError,
  type UnauthenticatedError,
  ValidationError,
  ApiKeyNotFoundError,
  UnauthorizedError
} from "../../Errors.ts"
import { countRecords, checkCapacity } from "./AccessLimits.ts"
import { keyNeededError } from "./KeyErrors.ts"
import * as BuiltIn from "./BuiltIn.ts"
import { findRole } from "./RoleRows.ts"
import { logAccess } from "./AccessLog.ts"

const BOOTSTRAP_KEY_ID = "key_bootstrap"

export const toKey = (row: Row): KeyRecord => ({
  id: String(row.id),
  name: String(row.name),
  prefix: String(row.prefix),
  hash: String(row.hash),
  // only `storeKey` writes this column
  roleIds: parseStored(String(row.roles)) as Array<string>,
  createdAt: Number(row.created_at),
  ...(row.environment === null ? {} : { environment: String(row.environment) }),
  ...(row.expires_at === null ? {} : { expiresAt: Number(row.expires_at) }),
  ...(row.last_used_at === null ? {} : { lastUsedAt: Number(row.last_used_at) }),
  ...(row.previous_hash === null
    ? {}
    : { previous: { hash: String(row.previous_hash), endsAt: Number(row.previous_ends_at) } })
})

export const createApiKey = acrossEnvironments(
  "createApiKey",
  function* (
    tx: Transaction,
    input: NewKey,
    by: string
  ): Program<KeyRecord, RoleNotFoundError | UnauthenticatedError | ValidationError> {
    const isFirst = (yield* countRecords("api_keys")) === 0
    // another caller may have made the first key at the same time
    if (input.mustBeFirst === true && !isFirst) return yield* refuse(keyNeededError())
    if (isFirst && input.lifeMs !== undefined) {
      return yield* refuse(
        new ValidationError(
          "The first API key must not expire: after its end no key would work any more. Make it without an end " +
            "(`ironflow apikeys create admin`), and use it to make the one that expires"
        )
      )
    }
    yield* checkCapacity("api_keys", "API keys")
    const environment =
      input.mustBeFirst === true ? "*" : (input.environment ?? (isFirst ? "*" : input.callEnvironment))
    const roleIds = [
      ...new Set([
        ...(input.roleIds ?? [isFirst ? BuiltIn.ADMIN : BuiltIn.DEVELOPER]),
        ...(input.mustBeFirst === true ? [BuiltIn.ADMIN] : [])
      ])
    ]
    for (const id of roleIds) yield* findRole(id)
    const createdAt = tx.now()
    const expiresAt = Math.min(
      input.latestEnd ?? Number.POSITIVE_INFINITY,
      createdAt + (input.lifeMs ?? Number.POSITIVE_INFINITY)
    )
    const key: KeyRecord = {
      id: tx.ids.apiKey(),
      name: input.name,
      prefix: input.prefix,
      hash: input.hash,
      roleIds,
      createdAt,
      ...(environment === "*" ? {} : { environment }),
      ...(expiresAt === Number.POSITIVE_INFINITY ? {} : { expiresAt })
    }
    yield* storeKey(tx, key)
    yield* logAccess(tx, by, "apikey:create", key.id, { name: key.name, environment, roles: roleIds })
    return key
  },
  () => "store an API key"
)

const FIND_BOOTSTRAP_KEY = statement("KeyRows.findBootstrapKey", "SELECT * FROM api_keys WHERE id = ?")

const FIND_OTHER_KEY_WITH_HASH = statement(
  "KeyRows.findOtherKeyWithHash",
  "SELECT 1 FROM api_keys WHERE hash = ? AND id <> ?"
)

const DELETE_BOOTSTRAP_KEY = statement("KeyRows.deleteBootstrapKey", "DELETE FROM api_keys WHERE id = ?")

/** Stores the bootstrap key, and removes an earlier bootstrap key. Does nothing when a key has this secret already. */
export const putBootstrapKey = acrossEnvironments(
  "putBootstrapKey",
  function* (tx: Transaction, hash: string): Program<void> {
    const row = yield* get(FIND_BOOTSTRAP_KEY, BOOTSTRAP_KEY_ID)
    if (row !== undefined && row.hash === hash) return
    if ((yield* get(FIND_OTHER_KEY_WITH_HASH, hash, BOOTSTRAP_KEY_ID)) !== undefined) return
    const key: KeyRecord = {
      id: BOOTSTRAP_KEY_ID,
      name: "bootstrap",
      prefix: "",
      hash,
      roleIds: [BuiltIn.ADMIN],
      createdAt: tx.now()
    }
    yield* write(DELETE_BOOTSTRAP_KEY, BOOTSTRAP_KEY_ID)
    yield* storeKey(tx, key)
    yield* logAccess(tx, "local", row === undefined ? "apikey:create" : "apikey:rotate", BOOTSTRAP_KEY_ID, {
      name: key.name
    })
  },
  () => "store the bootstrap key"
)

const UPDATE_HASHES = statement(
  "KeyRows.updateHashes",
  "UPDATE api_keys SET hash = ?, prefix = ?, previous_hash = ?, previous_ends_at = ? WHERE id = ?"
)

/** Replaces the secret of a key. The old secret ends after `overlapMs`, or at once when `overlapMs` is absent. */
export const rotateApiKey = acrossEnvironments(
  "rotateApiKey",
  function* (
    tx: Transaction,
    id: string,
    { hash, overlapMs, prefix }: NewSecret,
    by: string
  ): Program<KeyRecord, ApiKeyNotFoundError> {
    const { previous: _, ...oldKey } = yield* findKey(id)
    const previous = overlapMs === undefined ? undefined : { hash: oldKey.hash, endsAt: tx.now() + overlapMs }
    const key: KeyRecord = { ...oldKey, hash, prefix, ...(previous === undefined ? {} : { previous }) }
    yield* write(UPDATE_HASHES, hash, prefix, previous?.hash ?? null, previous?.endsAt ?? null, id)
    tx.changes.access.push({ _tag: "Key", key })
    yield* logAccess(tx, by, "apikey:rotate", id, {
      name: key.name,
      ...(previous === undefined ? {} : { overlapMs })
    })
    return key
  },
  (id) => `rotate API key ${id}`
)

const DELETE_API_KEY = statement("KeyRows.deleteApiKey", "DELETE FROM api_keys WHERE id = ?")

/**
 * Deletes a key. When the last key is deleted, every call is accepted without a key from then on: `mayOpen` says whether that is
 * allowed; `true` by default.
 */
export const deleteApiKey = acrossEnvironments(
  "deleteApiKey",
  function* (
    tx: Transaction,
    id: string,
    by: string,
    { mayOpen = true }: { readonly mayOpen?: boolean } = {}
  ): Program<void, ApiKeyNotFoundError | UnauthorizedError> {
    const { name } = yield* findKey(id)
    if (!mayOpen && (yield* countRecords("api_keys")) === 1) {
      return yield* refuse(
        new UnauthorizedError(
          `The API key "${name}" is the last one: without it, everybody who reaches the engine could do everything. Only a key that may do ` +
            "everything, in all environments and without an end, can delete it"
        )
      )
    }
    yield* write(DELETE_API_KEY, id)
    tx.changes.access.push({ _tag: "KeyDeleted", id })
    yield* logAccess(tx, by, "apikey:delete", id, { name })
  },
  (id) => `delete API key ${id}`
)

const UPDATE_LAST_USE = statement(
  "KeyRows.updateLastUse",
  "UPDATE api_keys SET last_used_at = ? WHERE id = ?"
)

/** Stores when keys were last used. Deleted keys are skipped. */
export const touchApiKeys = acrossEnvironments(
  "touchApiKeys",
  function* (
    _tx: Transaction,
    uses: ReadonlyArray<{ readonly id: string; readonly at: number }>
  ): Program<void> {
    for (const { id, at } of uses) yield* write(UPDATE_LAST_USE, at, id)
  },
  () => "note the use of API keys"
)

const INSERT_KEY = statement(
  "KeyRows.insertKey",
  `INSERT INTO api_keys (id, name, prefix, hash, environment, roles, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
)

function* storeKey(tx: Transaction, key: KeyRecord): Program<void> {
  yield* write(
    INSERT_KEY,
    key.id,
    key.name,
    key.prefix,
    key.hash,
    key.environment ?? null,
    JSON.stringify(key.roleIds),
    key.createdAt,
    key.expiresAt ?? null
  )
  tx.changes.access.push({ _tag: "Key", key })
}

const FIND_KEY = statement("KeyRows.findKey", "SELECT * FROM api_keys WHERE id = ?")

function* findKey(id: string): Program<KeyRecord, ApiKeyNotFoundError> {
  const row = yield* get(FIND_KEY, id)
  if (row === undefined) return yield* refuse(new ApiKeyNotFoundError(id))
  return toKey(row)
}
