/**
 * Managing keys, organizations, roles and policies: checked input, then one operation of the store.
 *
 * A caller with a key does no more than its key: it sees and makes keys of its own environment, gives nobody more than it has
 * itself, and changes what is shared by all environments only with a key that spans them. The process of the engine, and
 * anybody before there are keys, may do everything.
 */
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import type {
  APIKey,
  ApiKeysApi,
  APIKeyWithSecret,
  CreateAPIKeyInput,
  RotateAPIKeyOptions
} from "../../Client/ApiKeys.ts"
import type { EffectKind } from "../../Client/Client.ts"
import type { Organization, OrgsApi } from "../../Client/Orgs.ts"
import type { PoliciesApi, Policy } from "../../Client/Policies.ts"
import type { Role, RolesApi } from "../../Client/Roles.ts"
import { positiveDuration } from "../../Duration.ts"
import {
  ApiKeyNotFoundError,
  type EngineError,
  isIronflowError,
  LimitExceededError,
  type NotFoundError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  UnauthorizedError,
  ValidationError
} from "../../Errors.ts"
import type { Raw } from "../../Client/Named.ts"
import { isObject } from "../../Json.ts"
import { checkName, rolesOfKey } from "../../Limits.ts"
import {
  type Action,
  checkActions,
  checkCondition,
  checkResources,
  type PolicyRule,
  type ResourceKind
} from "../../Policy.ts"
import { show } from "../../Show.ts"
import type {
  AccessLogEntry,
  KeyRecord,
  OrgRecord,
  PolicyChanges,
  PolicyRecord,
  RoleRecord
} from "../Store/AccessRecords.ts"
import type { StoreService } from "../Store/Store.ts"
import { type Access, type Caller, hashOf } from "./Access.ts"
import { DEFAULT_ORG, DEVELOPER, everything, isBuiltIn } from "./BuiltIn.ts"
import { Comparison, excess } from "./Grants.ts"

export interface Management {
  readonly apiKeys: Raw<ApiKeysApi<EffectKind>, EngineError>
  readonly orgs: Raw<OrgsApi<EffectKind>, EngineError>
  readonly roles: Raw<RolesApi<EffectKind>, EngineError>
  readonly policies: Raw<PoliciesApi<EffectKind>, EngineError>
  /** Newest first. */
  readonly log: (limit: number) => Effect.Effect<ReadonlyArray<AccessLogEntry>, EngineError>
}

/** Longest life of a key, milliseconds: a hundred years, so that its end is a time that dates can say. */
const longestLife = 100 * 365 * 24 * 3_600_000

/** How long the secret before may go on working, milliseconds. */
const longestOverlap = 30 * 24 * 3_600_000

const ENVIRONMENT_ID = "env_"
const PREFIX = "ifk_"
/** Characters of a key that are stored to tell it apart. */
const shownLength = PREFIX.length + 6

/** For calls of `caller` in the environment; without a caller for the engine's own process. */
export const make = (
  { store, access }: { readonly store: StoreService; readonly access: Access },
  environment: string,
  caller?: Caller
): Management => {
  const by = caller?.key?.id ?? "local"
  const bound = caller?.key?.environment

  /** Whether a list shows it: what may be read, and no more. */
  const shows =
    (action: Action, kind: ResourceKind) =>
    ({ id }: { readonly id: string }): boolean =>
      caller?.may(action, `${kind}:${id}`, environment) ?? true

  const visible = (key: KeyRecord): boolean => bound === undefined || key.environment === bound

  const findKey = (id: unknown): KeyRecord => {
    const key = access.keys.get(checkName("id of the API key", id))
    if (key !== undefined && visible(key)) return key
    throw new ApiKeyNotFoundError(String(id))
  }

  /** Nobody gives more than they may do themselves. */
  const checkGiving = (
    what: string,
    rules: ReadonlyArray<PolicyRule>,
    comparison = new Comparison()
  ): void => {
    if (caller?.key === undefined) return
    const more = excess(caller.rules, rules, comparison)
    if (more === undefined) return
    throw new UnauthorizedError(
      `The API key "${caller.key.name}" may not ${what}, which could do more than it can itself: ${more}. ` +
        "Use a key that may do all of that"
    )
  }

  /** Whether the caller loses nothing to somebody who may do everything, everywhere and for ever. */
  const mayEverything = (): boolean =>
    caller?.key === undefined ||
    (bound === undefined && caller.endsAt === undefined && excess(caller.rules, everything) === undefined)

  /** The roles as they would be with other policies, where a key of the roles would hear of it. */
  const checkRoles = (
    what: string,
    changed: (role: RoleRecord) => ReadonlyArray<PolicyRule> | undefined
  ): void => {
    const comparison = new Comparison()
    for (const role of access.roles.values()) {
      const rules = changed(role)
      if (rules !== undefined) checkGiving(what, rules, comparison)
    }
  }

  const policiesOf = ({ policyIds }: RoleRecord): ReadonlyArray<PolicyRecord> =>
    policyIds.flatMap((id) => access.policies.get(id) ?? [])

  const checkSpanning = (what: string): void => {
    if (bound === undefined) return
    throw new UnauthorizedError(
      `${what} is for all environments, and the API key "${caller?.key?.name}" is bound to "${bound}": use one that spans all`
    )
  }

  const shown = (key: KeyRecord): APIKey => toApiKey(key, access.lastUse(key), access.now())

  const create = (input: CreateAPIKeyInput) =>
    Effect.gen(function* () {
      const {
        name,
        environment: named,
        roleIds,
        lifeMs
      } = yield* checked(() => {
        const read = readKeyInput(input)
        if (bound !== undefined && (read.environment ?? bound) !== bound) {
          throw new UnauthorizedError(
            `The API key "${caller?.key?.name}" is bound to environment "${bound}" and makes keys for no other`
          )
        }
        for (const id of read.roleIds ?? []) findIn(access.roles, id, "role", RoleNotFoundError)
        checkGiving(`make the key "${read.name}"`, access.rulesOf(read.roleIds ?? [DEVELOPER]))
        const endsAt = caller?.endsAt
        if (endsAt !== undefined && read.lifeMs !== undefined && access.now() + read.lifeMs > endsAt) {
          throw new UnauthorizedError(
            `The API key "${caller?.key?.name}" ends at ${iso(endsAt)}, and makes no key that ends later: ` +
              "leave `expires_in` out for one that ends with it"
          )
        }
        return read
      })
      // outside of the transaction, which may be repeated; from the system, because a seed must not give keys away
      const secret = newSecret()
      const key = yield* store.createApiKey(
        {
          name,
          ...stored(secret),
          callEnvironment: environment,
          ...(named === undefined ? {} : { environment: named }),
          ...(roleIds === undefined ? {} : { roleIds }),
          ...(lifeMs === undefined ? {} : { lifeMs }),
          ...(caller?.endsAt === undefined ? {} : { endsBy: caller.endsAt }),
          ...(caller === undefined || caller.key !== undefined ? {} : { byAnybody: true })
        },
        by
      )
      return withSecret(shown(key), secret)
    })

  const apiKeys: Raw<ApiKeysApi<EffectKind>, EngineError> = {
    create,
    list: () =>
      Effect.sync(() =>
        [...access.keys.values()]
          .filter(visible)
          .filter(shows("apikey:read", "apikey"))
          .sort(newestFirst)
          .map(shown)
      ),
    get: (id) => checked(() => shown(findKey(id))),
    rotate: (id, options) =>
      Effect.flatMap(
        checked(() => {
          const overlapMs = readOverlap(options)
          const key = findKey(id)
          // whoever rotates a key has it from then on
          if (key.id !== caller?.key?.id) {
            checkGiving(`rotate the key "${key.name}"`, access.rulesOf(key.roleIds))
          }
          const endsAt = caller?.endsAt
          if (endsAt !== undefined && (key.expiresAt ?? Number.POSITIVE_INFINITY) > endsAt) {
            throw new UnauthorizedError(
              `The API key "${caller?.key?.name}", or the secret of it that this call has, ends at ${iso(endsAt)}, and rotates no key that ends later: use the newest secret, or another key`
            )
          }
          return { secret: newSecret(), overlapMs }
        }),
        ({ overlapMs, secret }) =>
          Effect.map(
            store.rotateApiKey(
              id,
              { ...stored(secret), ...(overlapMs === undefined ? {} : { overlapMs }) },
              by
            ),
            (key) => withSecret(shown(key), secret)
          )
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => findKey(id)),
        () => store.deleteApiKey(id, by, { mayOpen: mayEverything() })
      )
  }

  const orgs: Raw<OrgsApi<EffectKind>, EngineError> = {
    create: (input) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("An organization")
          return checkName("name of the organization", fieldsOf(input, "An organization").name)
        }),
        (name) => Effect.map(store.createOrg(name, by), toOrganization)
      ),
    list: () =>
      Effect.sync(() => [...access.orgs.values()].filter(shows("org:read", "org")).map(toOrganization)),
    get: (id) => checked(() => toOrganization(findIn(access.orgs, id, "organization", OrgNotFoundError))),
    update: (id, input) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("An organization")
          return {
            id: checkName("id of the organization", id),
            name: optionalName("name of the organization", fieldsOf(input, "An organization").name)
          }
        }),
        ({ id, name }) => Effect.map(store.updateOrg(id, name, by), toOrganization)
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("An organization")
          return checkName("id of the organization", id)
        }),
        (id) => store.deleteOrg(id, by)
      )
  }

  const rolePolicy =
    (
      change: (roleId: string, policyId: string, by: string) => Effect.Effect<void, EngineError>,
      check: (roleId: string, policyId: string) => void
    ) =>
    (roleId: string, policyId: string) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A role")
          const ids = [checkName("id of the role", roleId), checkName("id of the policy", policyId)] as const
          check(...ids)
          return ids
        }),
        ([roleId, policyId]) => change(roleId, policyId, by)
      )

  const roles: Raw<RolesApi<EffectKind>, EngineError> = {
    create: (input) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A role")
          const fields = fieldsOf(input, "A role")
          return { name: checkName("name of the role", fields.name), orgId: orgOf(fields) }
        }),
        (role) => Effect.map(store.createRole(role, by), toRole)
      ),
    list: (orgId) =>
      checked(() =>
        ofOrg([...access.roles.values()], orgId)
          .filter(shows("role:read", "role"))
          .map(toRole)
      ),
    get: (id) => checked(() => toRole(findIn(access.roles, id, "role", RoleNotFoundError))),
    update: (id, input) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A role")
          return {
            id: checkName("id of the role", id),
            name: optionalName("name of the role", fieldsOf(input, "A role").name)
          }
        }),
        ({ id, name }) => Effect.map(store.updateRole(id, name, by), toRole)
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A role")
          return checkName("id of the role", id)
        }),
        (id) => store.deleteRole(id, by)
      ),
    assignPolicy: rolePolicy(store.assignPolicy, (roleId, policyId) => {
      const policy = access.policies.get(policyId)
      // one that denies only takes away
      if (policy?.effect !== "allow") return
      const role = access.roles.get(roleId)
      const denies = role === undefined ? [] : policiesOf(role).filter(({ effect }) => effect === "deny")
      checkGiving(`assign policy "${policy.name}"`, [policy, ...denies])
    }),
    removePolicy: rolePolicy(store.removePolicy, (roleId, policyId) => {
      const policy = access.policies.get(policyId)
      if (policy?.effect !== "deny") return
      checkRoles(`remove policy "${policy.name}" from a role`, (role) =>
        role.id === roleId && role.policyIds.includes(policyId)
          ? policiesOf(role).filter(({ id }) => id !== policyId)
          : undefined
      )
    })
  }

  const policies: Raw<PoliciesApi<EffectKind>, EngineError> = {
    create: (input) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A policy")
          const fields = fieldsOf(input, "A policy")
          const condition = present(fields.condition)
          return {
            orgId: orgOf(fields),
            name: checkName("name of the policy", fields.name),
            effect: readEffect(fields.effect),
            actions: checkActions(fields.actions),
            resources: checkResources(fields.resources),
            ...(condition === undefined ? {} : { condition: readCondition(condition) })
          }
        }),
        (policy) => Effect.map(store.createPolicy(policy, by), toPolicy)
      ),
    list: (orgId) =>
      checked(() =>
        ofOrg([...access.policies.values()], orgId)
          .filter(shows("policy:read", "policy"))
          .map(toPolicy)
      ),
    get: (id) => checked(() => toPolicy(findIn(access.policies, id, "policy", PolicyNotFoundError))),
    update: (id, input) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A policy")
          const changes = readPolicyChanges(fieldsOf(input, "A policy"))
          const policy = access.policies.get(checkName("id of the policy", id))
          if (policy !== undefined) {
            const changed = { ...policy, ...changes }
            if (widens(policy, changed)) {
              checkRoles(`change policy "${policy.name}" of a role`, (role) =>
                role.policyIds.includes(policy.id)
                  ? policiesOf(role).map((one) => (one.id === policy.id ? changed : one))
                  : undefined
              )
            }
          }
          return { id, changes }
        }),
        ({ id, changes }) => Effect.map(store.updatePolicy(id, changes, by), toPolicy)
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => {
          checkSpanning("A policy")
          return checkName("id of the policy", id)
        }),
        (id) => store.deletePolicy(id, by)
      )
  }

  return {
    apiKeys,
    orgs,
    roles,
    policies,
    log: (limit) =>
      Effect.flatMap(
        checked(() => checkSpanning("The access log")),
        () =>
          Effect.map(store.readAccessLog(limit), (entries) =>
            entries.filter(({ action, subject }) => {
              const kind = loggedKinds.find((kind) => action.startsWith(`${kind}:`))
              return (
                kind === undefined ||
                (caller?.isNotDenied(`${kind}:read`, `${kind}:${subject}`, environment) ?? true)
              )
            })
          )
      )
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Input
// ---------------------------------------------------------------------------------------------------------------------

type Fields = { readonly [name: string]: unknown }

const fieldsOf = (input: unknown, what: string): Fields => {
  if (isObject(input)) return input
  throw new ValidationError(
    `${what} is described by an object, got ${input === null ? "null" : typeof input}`
  )
}

/** `null` is another way to leave something out. */
const present = (value: unknown): unknown => (value === null ? undefined : value)

const optionalName = (kind: string, name: unknown): string | undefined =>
  present(name) === undefined ? undefined : checkName(kind, name)

/** A field in either spelling; `undefined` when it is absent. */
const either = (fields: Fields, camel: string, snake: string): unknown => {
  const first = present(fields[camel])
  const second = present(fields[snake])
  if (first !== undefined && second !== undefined && JSON.stringify(first) !== JSON.stringify(second)) {
    throw new ValidationError(`\`${camel}\` and \`${snake}\` are the same and say different things: give one`)
  }
  return first ?? second
}

const readKeyInput = (input: CreateAPIKeyInput) => {
  const fields = fieldsOf(input, "An API key")
  const environment = either(fields, "envId", "env_id")
  const roleIds = either(fields, "roleIds", "role_ids")
  const expiresIn = either(fields, "expiresIn", "expires_in")
  return {
    name: checkName("name of the API key", fields.name),
    environment: environment === undefined ? undefined : environmentOf(environment),
    roleIds: roleIds === undefined ? undefined : readRoleIds(roleIds),
    lifeMs: expiresIn === undefined ? undefined : readLife(expiresIn)
  }
}

const readLife = (duration: unknown): number => {
  const what = "`expires_in` of the API key"
  if (typeof duration !== "string" && typeof duration !== "number") {
    throw new ValidationError(
      `${what} must be a duration, like "90d" or milliseconds; got ${typeof duration}`
    )
  }
  const ms = positiveDuration(duration, what)
  if (ms > longestLife) throw new ValidationError(`${what} is too long: at most 36500d, or leave it out`)
  return Math.ceil(ms)
}

const readOverlap = (options: RotateAPIKeyOptions | undefined): number | undefined => {
  const overlap = present(options?.overlap)
  if (overlap === undefined) return undefined
  const what = "`overlap` of the API key"
  if (typeof overlap !== "string" && typeof overlap !== "number") {
    throw new ValidationError(`${what} must be a duration, like "24h" or milliseconds; got ${typeof overlap}`)
  }
  const ms = positiveDuration(overlap, what)
  if (ms > longestOverlap) {
    throw new ValidationError(`${what} is too long: the secret before goes on working for at most 30d`)
  }
  return Math.ceil(ms)
}

const environmentOf = (id: unknown): string => {
  const name = checkName("environment of the API key", id)
  return name.startsWith(ENVIRONMENT_ID) && name.length > ENVIRONMENT_ID.length
    ? name.slice(ENVIRONMENT_ID.length)
    : name
}

const readRoleIds = (ids: unknown): ReadonlyArray<string> => {
  if (!Array.isArray(ids))
    throw new ValidationError("`role_ids` of the API key must be a list of ids of roles")
  if (ids.length > rolesOfKey) {
    throw new LimitExceededError("The list of roles of the API key", ids.length, rolesOfKey, "roles")
  }
  return ids.map((id) => checkName("id of a role", id))
}

const orgOf = (fields: Fields): string => {
  const id = either(fields, "orgId", "org_id")
  return id === undefined ? DEFAULT_ORG : checkName("id of the organization", id)
}

const readEffect = (effect: unknown): "allow" | "deny" => {
  if (effect === "allow" || effect === "deny") return effect
  throw new ValidationError(`The effect of a policy is "allow" or "deny", got ${show(effect)}`)
}

const readCondition = (condition: unknown): string => {
  if (typeof condition === "string") return checkCondition(condition)
  throw new ValidationError(`The condition of a policy must be a CEL expression, got ${typeof condition}`)
}

const readPolicyChanges = (fields: Fields): PolicyChanges => ({
  ...(present(fields.name) === undefined ? {} : { name: checkName("name of the policy", fields.name) }),
  ...(present(fields.effect) === undefined ? {} : { effect: readEffect(fields.effect) }),
  ...(present(fields.actions) === undefined ? {} : { actions: checkActions(fields.actions) }),
  ...(present(fields.resources) === undefined ? {} : { resources: checkResources(fields.resources) }),
  ...(present(fields.condition) === undefined
    ? {}
    : { condition: fields.condition === "" ? "" : readCondition(fields.condition) })
})

const findIn = <A>(
  records: ReadonlyMap<string, A>,
  id: unknown,
  what: string,
  NotFound: new (id: string) => NotFoundError
): A => {
  const name = checkName(`id of the ${what}`, id)
  const found = records.get(name)
  if (found !== undefined) return found
  throw new NotFound(name)
}

const ofOrg = <A extends { readonly orgId: string }>(
  records: ReadonlyArray<A>,
  orgId: unknown
): ReadonlyArray<A> => {
  const id = present(orgId)
  if (id === undefined) return records
  checkName("id of the organization", id)
  return records.filter((record) => record.orgId === id)
}

/** What entries of the access log are about. */
const loggedKinds = ["apikey", "org", "role", "policy"] as const

/** Whether a policy may allow more after the change, or deny less. */
const widens = (before: PolicyRule, after: PolicyRule): boolean => {
  if (before.effect !== after.effect) return true
  const [less, more] = before.effect === "allow" ? [before, after] : [after, before]
  // as if both allowed
  return excess([{ ...less, effect: "allow" }], [{ ...more, effect: "allow" }]) !== undefined
}

/** Input that is not acceptable throws one of our errors: it becomes the failure of the call. */
const checked = <A>(check: () => A): Effect.Effect<A, EngineError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      // what is thrown here is an error of the engine
      return isIronflowError(error) ? Effect.fail(error as EngineError) : Effect.die(error)
    }
  })

// ---------------------------------------------------------------------------------------------------------------------
// Output
// ---------------------------------------------------------------------------------------------------------------------

const newestFirst = (a: KeyRecord, b: KeyRecord): number =>
  b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1)

const newSecret = (): string => PREFIX + randomBytes(32).toString("base64url")

const stored = (secret: string) => ({ hash: hashOf(secret), prefix: secret.slice(0, shownLength) })

const withSecret = (key: APIKey, secret: string): APIKeyWithSecret => ({ ...key, secret, key: secret })

const iso = (time: number): string => new Date(time).toISOString()

const toApiKey = (key: KeyRecord, lastUsedAt: number | undefined, now: number): APIKey => ({
  id: key.id,
  name: key.name,
  key_prefix: key.prefix,
  env_id: key.environment === undefined ? "*" : ENVIRONMENT_ID + key.environment,
  role_ids: [...key.roleIds],
  created_at: iso(key.createdAt),
  ...(key.expiresAt === undefined ? {} : { expires_at: iso(key.expiresAt) }),
  ...(lastUsedAt === undefined ? {} : { last_used_at: iso(lastUsedAt) }),
  ...(key.previous === undefined || key.previous.endsAt <= now
    ? {}
    : { previous_expires_at: iso(key.previous.endsAt) })
})

const toOrganization = ({ id, name, createdAt, updatedAt }: OrgRecord): Organization => ({
  id,
  name,
  created_at: iso(createdAt),
  updated_at: iso(updatedAt)
})

const toRole = ({ id, orgId, name, policyIds, createdAt }: RoleRecord): Role => ({
  id,
  org_id: orgId,
  name,
  is_default: isBuiltIn(id),
  policy_ids: [...policyIds],
  created_at: iso(createdAt)
})

const toPolicy = ({ id, orgId, createdAt, updatedAt, ...policy }: PolicyRecord): Policy => ({
  id,
  org_id: orgId,
  ...policy,
  created_at: iso(createdAt),
  updated_at: iso(updatedAt)
})
