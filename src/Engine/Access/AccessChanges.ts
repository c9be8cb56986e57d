/** After all access records were read again, finds those that have changed. */
import type { AccessChange } from "../Store/Changes.ts"
import type {
  AccessRecords,
  KeyRecord,
  OrgRecord,
  PolicyRecord,
  RoleRecord
} from "../Records/AccessRecords.ts"
import * as BuiltIn from "./BuiltIn.ts"

/** The records that an engine knows, by id, including the built-in ones. */
interface KnownRecords {
  readonly keys: ReadonlyMap<string, KeyRecord>
  readonly orgs: ReadonlyMap<string, OrgRecord>
  readonly roles: ReadonlyMap<string, RoleRecord>
  readonly policies: ReadonlyMap<string, PolicyRecord>
}

/** The changes that turn the known records into the found ones. */
export const changesTo = (known: KnownRecords, found: AccessRecords): ReadonlyArray<AccessChange> => [
  ...compare(known.orgs, found.orgs, BuiltIn.orgs).map((org): AccessChange =>
    typeof org === "string" ? { _tag: "OrgDeleted", id: org } : { _tag: "Org", org }
  ),
  ...compare(known.policies, found.policies, BuiltIn.policies).map((policy): AccessChange =>
    typeof policy === "string" ? { _tag: "PolicyDeleted", id: policy } : { _tag: "Policy", policy }
  ),
  ...compare(known.roles, found.roles, BuiltIn.roles).map((role): AccessChange =>
    typeof role === "string" ? { _tag: "RoleDeleted", id: role } : { _tag: "Role", role }
  ),
  ...compare(known.keys, found.keys, []).map((key): AccessChange =>
    typeof key === "string" ? { _tag: "KeyDeleted", id: key } : { _tag: "Key", key }
  )
]

/** New or changed records, and the ids of deleted ones. */
const compare = <A extends { readonly id: string }>(
  known: ReadonlyMap<string, A>,
  found: ReadonlyArray<A>,
  builtIn: ReadonlyArray<A>
): ReadonlyArray<A | string> => {
  const existingIds = new Set([...found, ...builtIn].map(({ id }) => id))
  return [
    ...found.filter((record) => !isSame(known.get(record.id), record)),
    ...[...known.keys()].filter((id) => !existingIds.has(id))
  ]
}

/** Whether two records are equal. The time at which a key was last used is ignored, because no check depends on it. */
const isSame = (one: object | undefined, other: object): boolean =>
  one !== undefined &&
  JSON.stringify({ ...one, lastUsedAt: 0 }) === JSON.stringify({ ...other, lastUsedAt: 0 })
