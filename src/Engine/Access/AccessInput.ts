/** Reads and checks the input of access management. */

import type { Raw } from "../../Client/NarrowErrors.ts"
import type { EngineError, NotFoundError } from "../../Errors.ts"
import { checkName } from "../../Limits.ts"
import { DEFAULT_ORG } from "./BuiltIn.ts"

/** A service whose methods take arguments of any kind and check them all, because callers may pass anything. */
export type Unchecked<S> = {
  readonly [M in keyof S]: Raw<S, EngineError>[M] extends (...args: infer P) => infer R
    ? (...args: { readonly [I in keyof P]: unknown }) => R
    : never
}

/** The error for input that is not an object. */
export const notAnObject =
  (what: string) =>
  (got: string): string =>
    `${what} must be an object, got ${got}`

export const readOptionalName = (kind: string, name: unknown): string | undefined =>
  name === undefined ? undefined : checkName(kind, name)

export const readOrgId = (id: unknown): string =>
  id === undefined ? DEFAULT_ORG : checkName("id of the organization", id)

export const findRecord = <A>(
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

export const filterByOrg = <A extends { readonly orgId: string }>(
  records: ReadonlyArray<A>,
  orgId: unknown
): ReadonlyArray<A> => {
  if (orgId === undefined || orgId === null) return records
  const id = checkName("id of the organization", orgId)
  return records.filter((record) => record.orgId === id)
}

export const toIsoTime = (time: number): string => new Date(time).toISOString()
