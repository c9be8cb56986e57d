/** Reads API keys, organizations, roles and policies as any Ironflow server answers them; `undefined` for what is none. */
import { isObject } from "../Json.ts"
import type { APIKey, APIKeyWithSecret } from "./ApiKeys.ts"
import type { Organization } from "./Orgs.ts"
import type { Policy } from "./Policies.ts"
import type { Role } from "./Roles.ts"
import type { SecretInfo } from "./Secrets.ts"

type Fields = { readonly [name: string]: unknown }

/** A reader for objects with an id. */
const withId =
  <A>(read: (fields: Fields, id: string) => A) =>
  (answer: unknown): A | undefined =>
    isObject(answer) && typeof answer.id === "string" ? read(answer, answer.id) : undefined

const text = (value: unknown): string => (typeof value === "string" ? value : "")
const texts = (value: unknown): Array<string> =>
  Array.isArray(value) ? value.filter((item) => typeof item === "string") : []

/** The members that are texts and not empty, under their own names. */
const filled = <const Name extends string>(
  fields: Fields,
  ...names: ReadonlyArray<Name>
): { readonly [K in Name]?: string } =>
  // the entries have just these names, and texts
  Object.fromEntries(names.flatMap((name) => (text(fields[name]) === "" ? [] : [[name, fields[name]]]))) as {
    [K in Name]?: string
  }

export const readApiKey = withId((fields, id): APIKey => ({
  id,
  name: text(fields.name),
  key_prefix: text(fields.key_prefix),
  ...filled(fields, "env_id"),
  ...(Array.isArray(fields.role_ids) ? { role_ids: texts(fields.role_ids) } : {}),
  created_at: text(fields.created_at),
  ...filled(fields, "expires_at", "last_used_at", "previous_expires_at")
}))

/** Servers name the key `key`, `secret`, or both. */
export const readNewKey = (answer: unknown): APIKeyWithSecret | undefined => {
  const key = readApiKey(answer)
  if (key === undefined || !isObject(answer)) return undefined
  const secret = text(answer.secret) || text(answer.key)
  return secret === "" ? undefined : { ...key, secret, key: secret }
}

export const readOrg = withId((fields, id): Organization => ({
  id,
  name: text(fields.name),
  created_at: text(fields.created_at),
  updated_at: text(fields.updated_at)
}))

export const readRole = withId((fields, id): Role => ({
  id,
  org_id: text(fields.org_id),
  name: text(fields.name),
  is_default: fields.is_default === true,
  ...(Array.isArray(fields.policy_ids) ? { policy_ids: texts(fields.policy_ids) } : {}),
  created_at: text(fields.created_at)
}))

export const readPolicy = withId((fields, id): Policy => ({
  id,
  org_id: text(fields.org_id),
  name: text(fields.name),
  effect: fields.effect === "deny" ? "deny" : "allow",
  actions: text(fields.actions),
  resources: text(fields.resources),
  ...filled(fields, "condition"),
  created_at: text(fields.created_at),
  updated_at: text(fields.updated_at)
}))

export const readSecret = (answer: unknown): SecretInfo | undefined =>
  isObject(answer) && typeof answer.name === "string"
    ? { name: answer.name, createdAt: text(answer.created_at), updatedAt: text(answer.updated_at) }
    : undefined

/** A list of what `read` reads; `undefined` when there is something else in it. */
export const listOf =
  <A>(read: (answer: unknown) => A | undefined) =>
  (answer: unknown): Array<A> | undefined => {
    if (!Array.isArray(answer)) return undefined
    const items = answer.map(read)
    return items.includes(undefined) ? undefined : items.filter((item) => item !== undefined)
  }
