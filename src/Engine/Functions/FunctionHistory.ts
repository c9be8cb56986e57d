/** The registrations of a function, by version, and which of its versions have unfinished runs. */
import { isDeepStrictEqual } from "node:util"
import type { FunctionVersion } from "../../Client/Client.ts"
import { FunctionNotFoundError } from "../../Errors.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { all, inEnvironment, type Program, refuse, statement, write } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { type Pinned, pinnedRuns } from "./Pins.ts"
import { registryOf } from "./Registry.ts"

/** How many versions of a function are kept. */
export const MAX_VERSIONS = 50

const PUT_VERSION = statement(
  "FunctionHistory.putVersion",
  `INSERT INTO function_history (function, version, at, registration) VALUES (?, ?, ?, ?)
     ON CONFLICT (function, version) DO UPDATE SET at = excluded.at, registration = excluded.registration`
)
const DELETE_OLD_VERSIONS = statement(
  "FunctionHistory.deleteOldVersions",
  "DELETE FROM function_history WHERE function = ? AND version <= ?"
)

/** Stores a new registration of the function. `registration` is a JSON string. */
export function* keepHistory(
  tx: Transaction,
  functionKey: number,
  version: number,
  registration: string
): Program<void> {
  yield* write(PUT_VERSION, functionKey, version, tx.now(), registration)
  yield* write(DELETE_OLD_VERSIONS, functionKey, version - MAX_VERSIONS)
}

const LIST_VERSIONS = statement(
  "FunctionHistory.listVersions",
  "SELECT version, at, registration FROM function_history WHERE function = ? ORDER BY version DESC"
)

/** The kept versions of a function, newest first. */
export const functionHistory = inEnvironment(
  "functionHistory",
  function* (
    tx: Transaction,
    environment: string,
    id: string
  ): Program<Array<FunctionVersion>, FunctionNotFoundError> {
    const fn = registryOf(tx).get(environment, id)
    if (fn === undefined) return yield* refuse(new FunctionNotFoundError(id))
    const live = new Map(
      (yield* pinnedRuns(fn)).map(({ codeVersion, liveRuns }) => [codeVersion, liveRuns] as const)
    )
    const rows = yield* all(LIST_VERSIONS, fn.key)
    // only `registerFunctions` writes this column
    const registrations = rows.map((row) => parseStored(String(row.registration)) as FunctionRegistration)
    return rows.map((row, i): FunctionVersion => {
      const registration = registrations[i]!
      const before = registrations[i + 1]
      const codeVersion = codeVersionOf(registration)
      return {
        version: Number(row.version),
        at: new Date(Number(row.at)).toISOString(),
        codeVersion,
        ...(before === undefined ? {} : { changed: differing(before, registration) }),
        liveRuns: live.get(codeVersion) ?? 0,
        // all of the registration is JSON
        registration: { ...registration }
      }
    })
  },
  (_, id) => `read the history of function "${id}"`
)

const differing = (before: FunctionRegistration, after: FunctionRegistration): Array<string> => {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<keyof FunctionRegistration>
  return [...names].filter((name) => !isDeepStrictEqual(before[name], after[name])).sort()
}

/** The code versions of a function that are in the kept history, newest first. */
export function* knownVersions(functionKey: number): Program<ReadonlyArray<string>> {
  const rows = yield* all(LIST_VERSIONS, functionKey)
  return [
    ...new Set(
      rows.map((row) => codeVersionOf(parseStored(String(row.registration)) as FunctionRegistration))
    )
  ]
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
  ): Program<{ readonly latest: string; readonly pinned: ReadonlyArray<Pinned> } | undefined> {
    const fn = registryOf(tx).get(environment, id)
    if (fn === undefined) return undefined
    return { latest: codeVersionOf(fn.registration), pinned: yield* pinnedRuns(fn) }
  },
  (_, id) => `count the runs of function "${id}"`
)
