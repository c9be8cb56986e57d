/** Manages API keys: each method checks its input, and then runs one program of the store. */
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import type { ApiKeysApi } from "../../Client/ApiKeys.ts"
import { type APIKey, type APIKeyWithSecret, CreateApiKey, RotateApiKey } from "../../Protocol/Access.ts"
import type { EffectKind } from "../../Client/Client.ts"
import { positiveDuration } from "../../Duration.ts"
import {
  ApiKeyNotFoundError,
  LimitExceededError,
  RoleNotFoundError,
  UnauthorizedError,
  ValidationError
} from "../../Errors.ts"
import { memberReader } from "../../Protocol/ServerCodec.ts"
import { checkName, rolesOfKey } from "../../Limits.ts"
import { show } from "../../Show.ts"
import type { KeyRecord } from "../Records/AccessRecords.ts"
import { hashOf } from "./Access.ts"
import { DEVELOPER } from "./BuiltIn.ts"
import * as KeyRows from "./KeyRows.ts"

import type { ManagingCaller } from "./ManagingCaller.ts"
import { notAnObject, findRecord, toIsoTime, type Unchecked } from "./AccessInput.ts"

export const make = (manager: ManagingCaller): Unchecked<ApiKeysApi<EffectKind>> => {
  const { access, boundEnvironment, by, caller, checkGiving, environment, mayDoEverything, maySee, store } =
    manager
  const isVisible = (key: KeyRecord): boolean =>
    boundEnvironment === undefined || key.environment === boundEnvironment

  const findKey = (id: unknown): KeyRecord => {
    const key = access.keys.get(checkName("id of the API key", id))
    if (key !== undefined && isVisible(key)) return key
    throw new ApiKeyNotFoundError(String(id))
  }

  const toListedKey = (key: KeyRecord): APIKey => toApiKey(key, access.lastUseOf(key), access.now())

  const create = (input: unknown) =>
    Effect.gen(function* () {
      const {
        name,
        environment: requestedEnvironment,
        roleIds,
        lifeMs
      } = yield* checked(() => {
        const newKey = readKeyInput(input)
        if (boundEnvironment !== undefined && (newKey.environment ?? boundEnvironment) !== boundEnvironment) {
          throw new UnauthorizedError(
            `The API key "${caller?.key?.name}" is bound to environment "${boundEnvironment}", and can make keys for that environment only`
          )
        }
        for (const id of newKey.roleIds ?? []) findRecord(access.roles, id, "role", RoleNotFoundError)
        checkGiving(`make the key "${newKey.name}"`, access.rulesOf(newKey.roleIds ?? [DEVELOPER]))
        const endsAt = caller?.endsAt
        if (endsAt !== undefined && newKey.lifeMs !== undefined && access.now() + newKey.lifeMs > endsAt) {
          throw new UnauthorizedError(
            `The API key "${caller?.key?.name}" ends at ${toIsoTime(endsAt)}, and cannot make a key that ends later: ` +
              "leave `expires_in` out for a key that ends at the same time"
          )
        }
        return newKey
      })
      // the transaction may be repeated, so the secret is made outside of it. The secret comes from the random source of the
      // system: Effect's random numbers may have a known seed, which would reveal the secret
      const secret = newSecret()
      const key = yield* store.write(
        KeyRows.createApiKey(
          {
            name,
            ...storedPartsOf(secret),
            callEnvironment: environment,
            ...(requestedEnvironment === undefined ? {} : { environment: requestedEnvironment }),
            ...(roleIds === undefined ? {} : { roleIds }),
            ...(lifeMs === undefined ? {} : { lifeMs }),
            ...(caller?.endsAt === undefined ? {} : { latestEnd: caller.endsAt }),
            ...(caller === undefined || caller.key !== undefined ? {} : { mustBeFirst: true })
          },
          by
        )
      )
      return withSecret(toListedKey(key), secret)
    })

  return {
    create,
    list: () =>
      Effect.sync(() =>
        [...access.keys.values()]
          .filter(isVisible)
          .filter(maySee("apikey:read", "apikey"))
          .sort(newestFirst)
          .map(toListedKey)
      ),
    get: (id) => checked(() => toListedKey(findKey(id))),
    rotate: (id, options) =>
      Effect.flatMap(
        checked(() => {
          const overlapMs = readOverlap(options)
          const key = findKey(id)
          // a caller that rotates a key learns its secret, and so gets the permissions of that key
          if (key.id !== caller?.key?.id) {
            checkGiving(`rotate the key "${key.name}"`, access.rulesOf(key.roleIds))
          }
          const endsAt = caller?.endsAt
          if (endsAt !== undefined && (key.expiresAt ?? Number.POSITIVE_INFINITY) > endsAt) {
            throw new UnauthorizedError(
              `The API key "${key.name}" cannot be rotated: the secret that this call used, of key "${caller?.key?.name}", ends at ${toIsoTime(endsAt)}, and "${key.name}" is valid for longer. Make the call with the newest secret of "${caller?.key?.name}", or with another API key`
            )
          }
          return { id: key.id, secret: newSecret(), overlapMs }
        }),
        ({ id, overlapMs, secret }) =>
          Effect.map(
            store.write(
              KeyRows.rotateApiKey(
                id,
                { ...storedPartsOf(secret), ...(overlapMs === undefined ? {} : { overlapMs }) },
                by
              )
            ),
            (key) => withSecret(toListedKey(key), secret)
          )
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => findKey(id)),
        ({ id }) => store.write(KeyRows.deleteApiKey(id, by, { mayOpen: mayDoEverything() }))
      )
  }
}

/** The longest lifetime of a key, in milliseconds: a hundred years, so that its end fits into a date. */
const MAX_LIFE_MS = 100 * 365 * 24 * 3_600_000

/** The longest time for which the old secret may go on working, in milliseconds. */
const MAX_OVERLAP_MS = 30 * 24 * 3_600_000

const ENVIRONMENT_ID_PREFIX = "env_"
const SECRET_PREFIX = "ifk_"
/** How many characters of a secret are stored, so that a person recognizes the key. */
const STORED_PREFIX_LENGTH = SECRET_PREFIX.length + 6

const takeKey = memberReader(CreateApiKey, notAnObject("An API key"))
const takeRotation = memberReader(
  RotateApiKey,
  (got) =>
    `The options of the rotation of an API key must be an object such as { overlap: "24h" }, got ${got}: leave them out to end the old secret at once`
)

const readKeyInput = (input: unknown) => {
  const { env_id, expires_in, name, role_ids } = takeKey(input)
  return {
    name: checkName("name of the API key", name),
    environment: env_id === undefined ? undefined : environmentOf(env_id),
    roleIds: role_ids === undefined ? undefined : readRoleIds(role_ids),
    lifeMs: expires_in === undefined ? undefined : readLife(expires_in)
  }
}

const readLife = (duration: unknown): number => {
  const what = "`expires_in` of the API key"
  if (typeof duration !== "string" && typeof duration !== "number") {
    throw new ValidationError(
      `${what} must be a duration such as "90d", or a number of milliseconds, got ${show(duration)}`
    )
  }
  const ms = positiveDuration(duration, what)
  if (ms > MAX_LIFE_MS)
    throw new ValidationError(
      `${what} is ${show(duration)}, which is too long: give at most 36500d, or leave it out for a key that does not expire`
    )
  return Math.ceil(ms)
}

const readOverlap = (options: unknown): number | undefined => {
  const { overlap } = takeRotation(options ?? {})
  if (overlap === undefined) return undefined
  const what = "`overlap` of the API key"
  if (typeof overlap !== "string" && typeof overlap !== "number") {
    throw new ValidationError(
      `${what} must be a duration such as "24h", or a number of milliseconds, got ${show(overlap)}`
    )
  }
  const ms = positiveDuration(overlap, what)
  if (ms > MAX_OVERLAP_MS) {
    throw new ValidationError(
      `${what} is ${show(overlap)}, which is too long: the previous secret may stay valid for at most 30d`
    )
  }
  return Math.ceil(ms)
}

const environmentOf = (id: unknown): string => {
  const name = checkName("environment of the API key", id)
  return name.startsWith(ENVIRONMENT_ID_PREFIX) && name.length > ENVIRONMENT_ID_PREFIX.length
    ? name.slice(ENVIRONMENT_ID_PREFIX.length)
    : name
}

const readRoleIds = (ids: unknown): ReadonlyArray<string> => {
  if (!Array.isArray(ids))
    throw new ValidationError(`\`role_ids\` of the API key must be a list of ids of roles, got ${show(ids)}`)
  if (ids.length > rolesOfKey) {
    throw new LimitExceededError("The list of roles of the API key", ids.length, rolesOfKey, "roles")
  }
  return ids.map((id) => checkName("id of a role", id))
}

const newestFirst = (a: KeyRecord, b: KeyRecord): number =>
  b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1)

const newSecret = (): string => SECRET_PREFIX + randomBytes(32).toString("base64url")

const storedPartsOf = (secret: string) => ({
  hash: hashOf(secret),
  prefix: secret.slice(0, STORED_PREFIX_LENGTH)
})

const withSecret = (key: APIKey, secret: string): APIKeyWithSecret => ({ ...key, secret, key: secret })

const toApiKey = (key: KeyRecord, lastUsedAt: number | undefined, now: number): APIKey => ({
  id: key.id,
  name: key.name,
  key_prefix: key.prefix,
  env_id: key.environment === undefined ? "*" : ENVIRONMENT_ID_PREFIX + key.environment,
  role_ids: [...key.roleIds],
  created_at: toIsoTime(key.createdAt),
  ...(key.expiresAt === undefined ? {} : { expires_at: toIsoTime(key.expiresAt) }),
  ...(lastUsedAt === undefined ? {} : { last_used_at: toIsoTime(lastUsedAt) }),
  ...(key.previous === undefined || key.previous.endsAt <= now
    ? {}
    : { previous_expires_at: toIsoTime(key.previous.endsAt) })
})
