/**
 * Refuses new keys, organizations, roles and policies when there are too many. Also refuses to change built-in organizations, roles
 * and policies.
 */
import { type Program, get, variant, refuse } from "../Store/Program.ts"
import { LimitExceededError, InvalidStateError } from "../../Errors.ts"
import * as BuiltIn from "./BuiltIn.ts"

/** Maximum number of records of each kind: keys, organizations, roles and policies. */
export const MAX_ACCESS_RECORDS = 10_000

type Table = "api_keys" | "orgs" | "roles" | "policies"

export function* countRecords(table: Table): Program<number> {
  return Number((yield* get(variant("AccessLimits.count", `SELECT count(*) AS n FROM ${table}`)))?.n)
}

export function* checkCapacity(table: Table, what: string): Program<void, LimitExceededError> {
  if ((yield* countRecords(table)) >= MAX_ACCESS_RECORDS)
    return yield* refuse(
      new LimitExceededError(`The number of ${what}`, MAX_ACCESS_RECORDS + 1, MAX_ACCESS_RECORDS, what, {
        advice: `Delete ${what} that are no longer used`
      })
    )
}

export function* refuseBuiltIn(what: string, id: string) {
  if (!BuiltIn.isBuiltIn(id)) return
  return yield* refuse(
    new InvalidStateError(
      `The ${what} ${id} is built in and cannot be changed or deleted: create your own ${what} instead`
    )
  )
}
