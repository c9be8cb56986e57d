/** Rows of functions, from which the registry is restored after a restart. */
import { type RegisteredFunction, registryOf } from "./Registry.ts"
import { markReady, markReadyAtCommit, readyOf } from "./ReadyFunctions.ts"
import {
  all,
  get,
  insert,
  statement,
  type Program,
  write,
  acrossEnvironments,
  forEach,
  inEnvironment,
  refuse
} from "../Store/Program.ts"
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import { FunctionNotFoundError, type StoreError } from "../../Errors.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { addRegistration, firstRegistered, keptRegistrations, knownCodeVersions } from "./FunctionHistory.ts"
import { beginPinning } from "./Pins.ts"
import { pauseIn } from "./FunctionPause.ts"
import { putSchedules } from "./FunctionSchedules.ts"
import { putSearchPaths } from "./SearchPaths.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Changes, StoredPause } from "../Store/Changes.ts"
import type { StoreService } from "../Store/Store.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import type { FunctionInfo } from "../../Client/Client.ts"
import { codeVersionOf } from "../../Versioning.ts"

const FIND_FUNCTION = statement(
  "FunctionRows.findFunction",
  "SELECT key, hash, since, version, deleted_at, paused_at, paused_by, pause_reason, pins FROM functions WHERE environment = ? AND id = ?"
)

const INSERT_FUNCTION = statement(
  "FunctionRows.insertFunction",
  "INSERT INTO functions (environment, id, registration, hash, since, version, created_at, updated_at, pins) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)"
)

const RESTORE_FUNCTION = statement(
  "FunctionRows.restoreFunction",
  "UPDATE functions SET deleted_at = NULL WHERE key = ?"
)

const UPDATE_REGISTRATION = statement(
  "FunctionRows.updateRegistration",
  "UPDATE functions SET registration = ?, hash = ?, since = ?, version = ?, updated_at = ?, pins = ? WHERE key = ?"
)

const UPDATE_SINCE = statement("FunctionRows.updateSince", "UPDATE functions SET since = ? WHERE key = ?")

/** Functions that connected workers have: their ids and code versions. */
export type LiveCodeVersions = ReadonlyArray<readonly [functionId: string, codeVersion: string]>

/**
 * Adds functions or replaces their configuration. A change of configuration or code is a new version. `startedAt` is when the
 * program with these functions started. A registration of a program that started later stays in place, unless its function was
 * deleted. `liveVersions` has the ids and code versions of functions that other connected workers have. If a function pins runs
 * and its latest version is in `liveVersions`, an earlier version does not replace it. Returns the ids of the functions whose
 * registration stays in place.
 */
export const registerFunctions = acrossEnvironments(
  "registerFunctions",
  function* (
    tx: Transaction,
    environmentName: string,
    registrations: ReadonlyArray<FunctionRegistration>,
    startedAt?: number,
    liveVersions: LiveCodeVersions = []
  ): Program<ReadonlyArray<string>> {
    const environment = tx.environment(environmentName)
    const now = tx.now()
    const since = startedAt ?? now
    const keptIds: Array<string> = []
    for (const registration of registrations) {
      const text = JSON.stringify(registration)
      const hash = registrationHash(registration)
      const row = yield* get(FIND_FUNCTION, environment, registration.id)
      const isPinning = registration.versioning === "pin"
      const pins = isPinning || Number(row?.pins ?? 0) === 1
      let key: number
      let changeKind: "new" | "changed" | undefined
      if (row === undefined) {
        changeKind = "new"
        key = yield* insert(
          INSERT_FUNCTION,
          environment,
          registration.id,
          text,
          hash,
          since,
          now,
          now,
          pins ? 1 : 0
        )
        yield* addRegistration(tx, key, 1, text)
        yield* putSearchPaths(key, registration, undefined)
      } else {
        key = Number(row.key)
        const deleted = row.deleted_at !== null
        if (deleted) {
          changeKind = "new"
          yield* write(RESTORE_FUNCTION, key)
        }
        if (row.hash !== hash || (tx.damage.wasFound && registryOf(tx).byKey(key) === undefined)) {
          const isOlder =
            since < Number(row.since) ||
            (isPinning &&
              isLatestLive(tx, key, liveVersions) &&
              (yield* isEarlierVersion(tx, key, registration)))
          if (isOlder && !deleted) {
            keptIds.push(registration.id)
            continue
          }
          changeKind ??= "changed"
          yield* replaceRegistration(tx, row, registration, since, pins)
        } else if (since > Number(row.since)) {
          yield* write(UPDATE_SINCE, since, key)
        }
      }
      yield* putSchedules(tx, key, registration)
      markReady(tx, key)
      put(
        tx,
        {
          key,
          environment: environmentName,
          registration,
          ...pauseIn(row),
          ...(pins ? { pins } : {})
        },
        changeKind
      )
    }
    return keptIds
  },
  () => "register functions"
)

/** Identifies a registration: another one of the same function has another hash. */
export const registrationHash = (registration: FunctionRegistration): string =>
  createHash("sha256").update(JSON.stringify(registration)).digest("hex").slice(0, 16)

/** Stores another registration of a function that has a row. */
function* replaceRegistration(
  tx: Transaction,
  row: Row,
  registration: FunctionRegistration,
  since: number,
  pins: boolean
): Program<void> {
  const key = Number(row.key)
  const text = JSON.stringify(registration)
  yield* putSearchPaths(key, registration, yield* storedRegistration(key))
  const version = Number(row.version) + 1
  yield* write(
    UPDATE_REGISTRATION,
    text,
    registrationHash(registration),
    since,
    version,
    tx.now(),
    pins ? 1 : 0,
    key
  )
  yield* addRegistration(tx, key, version, text)
  if (pins && Number(row.pins) === 0) yield* beginPinning(tx, key)
}

/** A registration of a live worker. It may be put in force again, because no live worker has the registration that is in force. */
export interface Restorable {
  readonly functionId: string
  /** The registration, or the hash of one that is in the history. */
  readonly registration: FunctionRegistration | string
  /** When the worker's program started, in epoch milliseconds. A program that started later may replace the registration again. */
  readonly startedAt: number
  /** The hash of the registration in force, as the caller knows it. Nothing changes if another one is in force by now. */
  readonly inForce: string
}

/** The result of {@link restoreRegistrations}. */
export interface Restored {
  /** The registrations that are in force again. */
  readonly restored: ReadonlyArray<FunctionRegistration>
  /** The ids of the functions whose registration has to wait. */
  readonly waiting: ReadonlyArray<string>
}

/** A kept registration of a function; `undefined` if none has this hash. */
function* registrationWithHash(key: number, hash: string): Program<FunctionRegistration | undefined> {
  return (yield* keptRegistrations(key)).find((one) => registrationHash(one) === hash)
}

/**
 * Puts registrations of live workers in force again. A registration that is newer than the one in force, by their first
 * appearance in the history, is put in force at once. An older one is put in force only if `hasWaited`, because the worker of the
 * registration in force may just be restarting. If the function pins its runs, an older one is never put in force again: the newer
 * version could not replace it when a worker with the newer version comes back.
 */
export const restoreRegistrations = acrossEnvironments(
  "restoreRegistrations",
  function* (
    tx: Transaction,
    environmentName: string,
    restorable: ReadonlyArray<Restorable>,
    hasWaited: boolean
  ): Program<Restored> {
    const environment = tx.environment(environmentName)
    const restored: Array<FunctionRegistration> = []
    const waiting: Array<string> = []
    for (const { functionId, inForce, registration: given, startedAt } of restorable) {
      const row = yield* get(FIND_FUNCTION, environment, functionId)
      if (row === undefined || row.deleted_at !== null || row.hash !== inForce) continue
      const key = Number(row.key)
      const current = registryOf(tx).byKey(key)?.registration
      const registration = typeof given === "string" ? yield* registrationWithHash(key, given) : given
      if (current === undefined || registration === undefined) continue
      const isNewer =
        (yield* firstRegistered(key, JSON.stringify(registration))) >
        (yield* firstRegistered(key, JSON.stringify(current)))
      if (!isNewer && current.versioning === "pin") continue
      if (!isNewer && !hasWaited) {
        waiting.push(functionId)
        continue
      }
      const pins = registration.versioning === "pin" || Number(row.pins) === 1
      yield* replaceRegistration(tx, row, registration, startedAt, pins)
      yield* putSchedules(tx, key, registration)
      markReady(tx, key)
      const fn = { key, environment: environmentName, registration, ...pauseIn(row) }
      put(tx, { ...fn, ...(pins ? { pins } : {}) }, "changed")
      restored.push(registration)
    }
    return { restored, waiting }
  },
  () => "restore registrations of live workers"
)

const isLatestLive = (tx: Transaction, key: number, live: LiveCodeVersions): boolean => {
  const latest = registryOf(tx).byKey(key)?.registration
  return (
    latest !== undefined &&
    live.some(([id, version]) => id === latest.id && version === codeVersionOf(latest))
  )
}

/** Whether a registration brings back the code of an earlier version. */
function* isEarlierVersion(
  tx: Transaction,
  key: number,
  registration: FunctionRegistration
): Program<boolean> {
  const current = registryOf(tx).byKey(key)?.registration
  const version = codeVersionOf(registration)
  return (
    current !== undefined &&
    codeVersionOf(current) !== version &&
    (yield* knownCodeVersions(key)).includes(version)
  )
}

const FIND_REGISTRATION = statement(
  "FunctionRows.findRegistration",
  "SELECT registration FROM functions WHERE key = ?"
)

/** The current registration of a function; `undefined` when it cannot be read. */
function* storedRegistration(key: number): Program<FunctionRegistration | undefined> {
  const row = yield* get(FIND_REGISTRATION, key)
  try {
    // only registrations are written to this column
    return parseStored(String(row?.registration)) as FunctionRegistration
  } catch {
    // the registration is replaced, and its search attributes are filled in again
    return undefined
  }
}

/** Changes the registry and tells the listeners, both when the transaction is committed. */
const put = (tx: Transaction, fn: RegisteredFunction, changed?: "new" | "changed"): void => {
  const { key: _, ...change } = fn
  tx.changes.functions.push(changed === undefined ? change : { ...change, changed })
  tx.afterCommit(() => registryOf(tx).put(fn))
}

const FIND_FUNCTION_TO_DELETE = statement(
  "FunctionRows.findFunctionToDelete",
  "SELECT key, registration, paused_at, paused_by, pause_reason, pins FROM functions WHERE environment = ? AND id = ? AND deleted_at IS NULL"
)

const MARK_DELETED = statement(
  "FunctionRows.markDeleted",
  "UPDATE functions SET deleted_at = ? WHERE key = ?"
)

const DELETE_SCHEDULES_OF_FUNCTION = statement(
  "FunctionRows.deleteSchedulesOfFunction",
  "DELETE FROM schedules WHERE function = ?"
)

/**
 * Deletes a function: nothing starts it until it is registered again. Its runs stay as they are. Fails with
 * `FunctionNotFoundError`.
 */
export const deleteFunction = acrossEnvironments(
  "deleteFunction",
  function* (tx: Transaction, environmentName: string, id: string): Program<void, FunctionNotFoundError> {
    const row = yield* get(FIND_FUNCTION_TO_DELETE, tx.environment(environmentName), id)
    if (row === undefined) return yield* refuse(new FunctionNotFoundError(id))
    const key = Number(row.key)
    yield* write(MARK_DELETED, tx.now(), key)
    yield* write(DELETE_SCHEDULES_OF_FUNCTION, key)
    // only registrations are written to this column
    const registration = parseStored(String(row.registration)) as FunctionRegistration
    put(tx, {
      key,
      environment: environmentName,
      registration,
      deleted: true,
      ...pauseIn(row),
      ...(Number(row.pins) === 1 ? { pins: true } : {})
    })
  },
  (_, functionId) => `delete function "${functionId}"`
)

const UPDATE_PAUSE = statement(
  "FunctionRows.updatePause",
  "UPDATE functions SET paused_at = ?, paused_by = ?, pause_reason = ? WHERE key = ?"
)

/** Whether a pause changes anything. It changes nothing if the function is already paused and no other reason is given. */
const changesPause = (before: StoredPause | undefined, { reason }: Omit<StoredPause, "at">): boolean =>
  before === undefined || (reason !== undefined && reason !== before.reason)

/**
 * Pauses a function, so that its new runs wait. Without a `pause`, ends the pause. If the function is already paused and another
 * reason is given, the new reason is stored with the name of who gave it, and the time of the pause stays. Returns whether
 * anything has changed.
 */
export function* setPause(
  tx: Transaction,
  environment: string,
  id: string,
  pause: Omit<StoredPause, "at"> | undefined
): Program<boolean, FunctionNotFoundError> {
  const fn = registryOf(tx).get(environment, id)
  if (fn === undefined || fn.deleted === true) return yield* refuse(new FunctionNotFoundError(id))
  if (pause === undefined ? fn.paused === undefined : !changesPause(fn.paused, pause)) return false
  const { paused: _, ...rest } = fn
  if (pause === undefined) {
    yield* write(UPDATE_PAUSE, null, null, null, fn.key)
    put(tx, rest)
    markReadyAtCommit(tx, fn.key)
    return true
  }
  const paused = { at: fn.paused?.at ?? tx.now(), ...pause }
  yield* write(UPDATE_PAUSE, paused.at, paused.by, paused.reason ?? null, fn.key)
  put(tx, { ...rest, paused })
  return true
}

const LIST_FUNCTIONS = statement(
  "FunctionRows.listFunctions",
  "SELECT f.key, f.registration, f.deleted_at, f.paused_at, f.paused_by, f.pause_reason, f.pins, e.name FROM functions f JOIN environments e ON e.key = f.environment ORDER BY f.key",
  { scans: "functions are held in memory, once at the start" }
)

/** Fills the registry at the start. Every function counts as one that may have ready runs. */
export function* loadRegistrations(tx: Transaction): Program<void> {
  const rows = yield* all(LIST_FUNCTIONS)
  for (const row of rows) {
    readyOf(tx).mayBeReady.add(Number(row.key))
    const registration = readRegistration(tx, row)
    if (registration === undefined) continue
    registryOf(tx).put({
      key: Number(row.key),
      environment: String(row.name),
      registration,
      ...(row.deleted_at === null ? {} : { deleted: true }),
      ...pauseIn(row),
      ...(Number(row.pins) === 1 ? { pins: true } : {})
    })
  }
}

const readRegistration = (tx: Transaction, row: Row): FunctionRegistration | undefined => {
  try {
    // only registrations are written to this column
    return parseStored(row.registration) as FunctionRegistration
  } catch (error) {
    // the runs of the function wait until a worker registers it again
    tx.damage.noteUnreadable(`Function ${row.key} of environment "${row.name}"`, error)
    return undefined
  }
}

/** The names of environments, and the functions that are registered. */
export type Registrations = Pick<Changes, "environments" | "functions">

/** All registrations, including those of deleted functions, in the order in which the functions were first registered. */
export const readFunctions = acrossEnvironments(
  "readFunctions",
  function* (tx: Transaction): Program<Registrations> {
    const functions = registryOf(tx)
      .all()
      .map(({ key: _, ...fn }) => fn)
    return { environments: tx.environmentNames, functions }
  },
  () => "read the functions"
)

/** How many functions one turn of the event loop reads at most. */
const FUNCTIONS_PER_PART = 1000

interface Part {
  readonly functions: ReadonlyArray<FunctionInfo>
  /** The key after which the next part begins; absent at the end. */
  readonly next?: number
}

/** The next functions of an environment, after the one with the key `after`. */
const readFunctionPart = inEnvironment(
  "readFunctionPart",
  function* (tx: Transaction, environment: string, after: number): Program<Part> {
    const remaining = registryOf(tx)
      .list(environment)
      .filter(({ key }) => key > after)
    const part = remaining.slice(0, FUNCTIONS_PER_PART)
    const functions = (yield* forEach(part, infoOf)).map(withoutSchemas)
    return { functions, ...(remaining.length > FUNCTIONS_PER_PART ? { next: part.at(-1)!.key } : {}) }
  },
  () => "list functions"
)

/** The functions of an environment, in the order in which they were first registered. */
export const listFunctions = (
  store: StoreService,
  environment: string
): Effect.Effect<Array<FunctionInfo>, StoreError> =>
  Effect.gen(function* () {
    const functions: Array<FunctionInfo> = []
    let after: number | undefined = 0
    while (after !== undefined) {
      if (after > 0) yield* yieldToEventLoop
      const part: Part = yield* store.read(readFunctionPart(environment, after))
      functions.push(...part.functions)
      after = part.next
    }
    return functions
  })

/** A function as shown in lists; `undefined` when it does not exist or was deleted. */
export const getFunction = inEnvironment(
  "getFunction",
  function* (tx: Transaction, environment: string, id: string): Program<FunctionInfo | undefined> {
    const fn = registryOf(tx).get(environment, id)
    return fn === undefined || fn.deleted === true ? undefined : yield* infoOf(fn)
  },
  (_, id) => `read function "${id}"`
)

const FIND_FUNCTION_INFO = statement(
  "FunctionRows.findFunctionInfo",
  "SELECT version, created_at, updated_at FROM functions WHERE key = ?"
)

function* infoOf({ key, paused, registration }: RegisteredFunction): Program<FunctionInfo> {
  const row = yield* get(FIND_FUNCTION_INFO, key)
  return {
    id: registration.id,
    name: registration.name,
    triggers: registration.triggers,
    version: Number(row?.version),
    codeHash: registration.codeHash,
    codeVersion: codeVersionOf(registration),
    versioning: registration.versioning ?? "latest",
    ...(registration.searchBy === undefined ? {} : { searchBy: [...registration.searchBy] }),
    ...(paused === undefined ? {} : { paused: { ...paused, at: iso(paused.at) } }),
    createdAt: iso(row?.created_at),
    updatedAt: iso(row?.updated_at)
  }
}

/** The function without its schemas, which would make a list of thousands of functions too large. */
const withoutSchemas = (fn: FunctionInfo): FunctionInfo => ({
  ...fn,
  triggers: fn.triggers.map(({ schema: _, version: _of, ...trigger }) => trigger)
})

const iso = (value: unknown): string => new Date(Number(value)).toISOString()
