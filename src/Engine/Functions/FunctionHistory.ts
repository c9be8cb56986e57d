/** The numbered registrations of a function, and how many unfinished runs each code version of the function has. */
import { isDeepStrictEqual } from "node:util"
import type { FunctionVersion } from "../../Client/Client.ts"
import { FunctionNotFoundError } from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { all, get, inEnvironment, type Program, refuse, statement, write } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { type PinnedVersion, pinnedRuns } from "./Pins.ts"
import { registryOf } from "./Registry.ts"

/**
 * How many registrations of a function are kept. In addition, the first entry of each of them is kept: it says in which order the
 * registrations appeared.
 */
export const MAX_REGISTRATIONS = 50

const PUT_REGISTRATION = statement(
  "FunctionHistory.putRegistration",
  `INSERT INTO function_history (function, version, at, registration) VALUES (?, ?, ?, ?)
     ON CONFLICT (function, version) DO UPDATE SET at = excluded.at, registration = excluded.registration`
)
const DELETE_OLD_REGISTRATIONS = statement(
  "FunctionHistory.deleteOldRegistrations",
  `DELETE FROM function_history WHERE function = ? AND version <= ? AND (
     EXISTS (SELECT 1 FROM function_history AS earlier WHERE earlier.function = function_history.function
       AND earlier.version < function_history.version AND earlier.registration = function_history.registration)
     OR NOT EXISTS (SELECT 1 FROM function_history AS newer WHERE newer.function = function_history.function
       AND newer.version > ? AND newer.registration = function_history.registration))`
)

/** Stores a new registration of the function, with its number. `registration` is its JSON text. */
export function* addRegistration(
  tx: Transaction,
  functionKey: number,
  version: number,
  registration: string
): Program<void> {
  yield* write(PUT_REGISTRATION, functionKey, version, tx.now(), registration)
  const deletedUpTo = version - MAX_REGISTRATIONS
  yield* write(DELETE_OLD_REGISTRATIONS, functionKey, deletedUpTo, deletedUpTo)
}

const FIND_FIRST_REGISTERED = statement(
  "FunctionHistory.findFirstRegistered",
  "SELECT min(version) AS first FROM function_history WHERE function = ? AND registration = ?"
)

/** The number of the first of the kept registrations that equals this JSON text; 0 if there is none. */
export function* firstRegistered(functionKey: number, registration: string): Program<number> {
  return Number((yield* get(FIND_FIRST_REGISTERED, functionKey, registration))?.first ?? 0)
}

const LIST_REGISTRATIONS = statement(
  "FunctionHistory.listRegistrations",
  "SELECT version, at, registration FROM function_history WHERE function = ? ORDER BY version DESC"
)

/** The kept registrations of a function, newest first. */
export const functionHistory = inEnvironment(
  "functionHistory",
  function* (
    tx: Transaction,
    environment: string,
    id: string
  ): Program<Array<FunctionVersion>, FunctionNotFoundError> {
    const fn = registryOf(tx).get(environment, id)
    if (fn === undefined) return yield* refuse(new FunctionNotFoundError(id))
    const liveRunsByVersion = new Map(
      (yield* pinnedRuns(fn)).map(({ codeVersion, liveRuns }) => [codeVersion, liveRuns] as const)
    )
    const rows = yield* all(LIST_REGISTRATIONS, fn.key)
    // only registrations are written to this column
    const registrations = rows.map((row) => parseStored(String(row.registration)) as FunctionRegistration)
    return rows.map((row, i): FunctionVersion => {
      const registration = registrations[i]!
      const registrationBefore = registrations[i + 1]
      const codeVersion = codeVersionOf(registration)
      return {
        version: Number(row.version),
        at: new Date(Number(row.at)).toISOString(),
        codeVersion,
        ...(registrationBefore === undefined
          ? {}
          : { changed: changedFields(registrationBefore, registration) }),
        liveRuns: liveRunsByVersion.get(codeVersion) ?? 0,
        // all of the registration is JSON
        registration: { ...registration }
      }
    })
  },
  (_, id) => `read the history of function "${id}"`
)

const changedFields = (before: FunctionRegistration, after: FunctionRegistration): Array<string> => {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<keyof FunctionRegistration>
  return [...names].filter((name) => !isDeepStrictEqual(before[name], after[name])).sort()
}

/** The push endpoint in the newest kept registration of a function that names one; `undefined` when none does. */
export function* formerEndpoint(functionKey: number): Program<string | undefined> {
  for (const row of yield* all(LIST_REGISTRATIONS, functionKey)) {
    const registration: unknown = safeJsonParse(String(row.registration))
    if (isObject(registration) && typeof registration.endpointUrl === "string")
      return registration.endpointUrl
  }
}

/** The kept registrations of a function, newest first. */
export function* keptRegistrations(functionKey: number): Program<ReadonlyArray<FunctionRegistration>> {
  const rows = yield* all(LIST_REGISTRATIONS, functionKey)
  // only registrations are written to this column
  return rows.map((row) => parseStored(String(row.registration)) as FunctionRegistration)
}

/** The code versions in the kept registrations of a function, newest first. */
export function* knownCodeVersions(functionKey: number): Program<ReadonlyArray<string>> {
  return [...new Set((yield* keptRegistrations(functionKey)).map(codeVersionOf))]
}

/**
 * The latest version of a function, and the number of unfinished runs that are pinned to each version, including the latest.
 * `undefined` when there is no such function.
 */
export const countPinned = inEnvironment(
  "countPinned",
  function* (
    tx: Transaction,
    environment: string,
    id: string
  ): Program<{ readonly latest: string; readonly pinned: ReadonlyArray<PinnedVersion> } | undefined> {
    const fn = registryOf(tx).get(environment, id)
    if (fn === undefined) return undefined
    return { latest: codeVersionOf(fn.registration), pinned: yield* pinnedRuns(fn) }
  },
  (_, id) => `count the runs of function "${id}"`
)
