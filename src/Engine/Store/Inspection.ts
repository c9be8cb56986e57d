/** Reading runs: pages of them, their steps, and the situation of one. */
import type { DamagedRun, FunctionInfo, ListRunsResult, Run, RunStep } from "../../Client/Client.ts"
import { ValidationError } from "../../Errors.ts"
import { findRun, readRun, runError, runIdOf, RUNS_WITH_EVENTS } from "./RunRows.ts"
import type { ListRunsQuery, RunSituation } from "./Store.ts"
import { type Row, RUN_ITSELF, Status, statuses, type Transaction, WaitKind } from "./Transaction.ts"
import { isDamage, isUnavailable, storeError } from "./SqliteErrors.ts"
import { decodeStored, parseStored } from "./StoredJson.ts"

export const listRuns = (tx: Transaction, query: ListRunsQuery): ListRunsResult => list(tx, query, findRuns)

/**
 * The same where pages are damaged, whose runs are named and not left out. Not within a transaction, which the first
 * damaged page would spoil.
 */
export const listRunsAround = (tx: Transaction, query: ListRunsQuery): ListRunsResult =>
  list(tx, query, findRunsAround)

const list = (tx: Transaction, query: ListRunsQuery, find: typeof findRuns): ListRunsResult => {
  const environment = tx.findEnvironment(query.environment)
  const fn = query.functionId === undefined ? undefined : tx.registry.get(query.environment, query.functionId)
  if (environment === undefined || (query.functionId !== undefined && fn === undefined)) {
    return { runs: [], totalCount: 0 }
  }
  const conditions = ["r.environment = ?"]
  const values: Array<number> = [environment]
  if (fn !== undefined) {
    conditions.push("r.function = ?")
    values.push(fn.key)
  }
  if (query.status !== undefined) {
    conditions.push("r.status = ?")
    values.push(statuses.indexOf(query.status))
    // the partial indexes hold few rows: completed runs are found by going back through all
    if (query.status === "failed" || query.status === "cancelled") conditions.push("r.status IN (6, 7)")
    else if (query.status !== "completed") conditions.push("r.ended_at IS NULL")
  }
  const where = conditions.join(" AND ")
  const before = query.cursor === undefined ? undefined : readCursor(query.cursor)
  const search: Search = { where, values, before, limit: query.limit + 1 }
  const { rows, totalCount } = find(tx, search)
  const page = rows.slice(0, query.limit)
  const last = page.at(-1)
  const runs: Array<Run> = []
  const damaged: Array<DamagedRun> = []
  for (const found of page) {
    if (found.row === undefined) {
      damaged.push(damagedRun(tx, found.key, found.error))
      continue
    }
    try {
      runs.push(readRun(tx, found.row))
    } catch (error) {
      if (isUnavailable(error)) throw error
      damaged.push(damagedRun(tx, found.key, error))
    }
  }
  return {
    runs,
    totalCount,
    ...(damaged.length === 0 ? {} : { damaged }),
    ...(rows.length > query.limit && last !== undefined ? { nextCursor: `r${last.key}` } : {})
  }
}

interface Search {
  readonly where: string
  readonly values: ReadonlyArray<number>
  readonly before: number | undefined
  readonly limit: number
}

/** A run, or why it cannot be read. */
type FoundRun =
  | { readonly key: number; readonly row: Row }
  | { readonly key: number; readonly row?: undefined; readonly error: unknown }

const findRuns = (
  tx: Transaction,
  { before, limit, values, where }: Search
): { readonly rows: ReadonlyArray<FoundRun>; readonly totalCount: number } => {
  const rows = tx.all(
    `${RUNS_WITH_EVENTS} WHERE ${where}${before === undefined ? "" : " AND r.key < ?"} ORDER BY r.key DESC LIMIT ?`,
    ...values,
    ...(before === undefined ? [] : [before]),
    limit
  )
  return {
    rows: rows.map((row) => ({ key: Number(row.key), row })),
    totalCount: Number(tx.get(`SELECT count(*) AS total FROM runs r WHERE ${where}`, ...values)?.total)
  }
}

/**
 * Reads around what is damaged: what a query cannot read is halved until the damaged runs are alone. Whose they are
 * and what they match is not known; they are part of every list.
 */
const findRunsAround = (
  tx: Transaction,
  { before, limit, values, where }: Search
): { readonly rows: ReadonlyArray<FoundRun>; readonly totalCount: number } => {
  // the index of ids has all the keys
  const keys = tx.all("SELECT key, id FROM runs ORDER BY +key DESC").map(({ key }) => Number(key))
  const rows: Array<FoundRun> = []
  let totalCount = 0
  const visit = (from: number, to: number): void => {
    if (from >= to) return
    const first = keys[from]!
    const alone = to - from === 1
    const range = alone ? "r.key = ?" : "r.key <= ? AND r.key >= ?"
    const bounds = alone ? [first] : [first, keys[to - 1]!]
    try {
      const count = Number(
        tx.get(`SELECT count(*) AS total FROM runs r WHERE ${where} AND ${range}`, ...values, ...bounds)
          ?.total
      )
      if (rows.length < limit && (before === undefined || keys[to - 1]! < before)) {
        const upTo = before === undefined ? "" : " AND r.key < ?"
        for (const row of tx.all(
          `${RUNS_WITH_EVENTS} WHERE ${where} AND ${range}${upTo} ORDER BY r.key DESC LIMIT ?`,
          ...values,
          ...bounds,
          ...(before === undefined ? [] : [before]),
          limit - rows.length
        )) {
          rows.push({ key: Number(row.key), row })
        }
      }
      totalCount += count
    } catch (error) {
      if (!isDamage(error)) throw error
      if (alone) {
        totalCount++
        if (rows.length < limit && (before === undefined || first < before)) rows.push({ key: first, error })
        return
      }
      const middle = (from + to) >> 1
      visit(from, middle)
      visit(middle, to)
    }
  }
  visit(0, keys.length)
  return { rows, totalCount }
}

const damagedRun = (tx: Transaction, key: number, error: unknown): DamagedRun => ({
  id: runIdOf(tx, key) ?? `#${key}`,
  message: storeError("Cannot read the run", error).message
})

const readCursor = (cursor: string): number => {
  const key = /^r(\d{1,15})$/.exec(cursor)?.[1]
  if (key === undefined) {
    throw new ValidationError(
      `Cursor "${cursor}" is not one that listRuns returned: pass nextCursor of the page before`
    )
  }
  return Number(key)
}

export const getRunSteps = (tx: Transaction, environment: string, runId: string): Array<RunStep> => {
  const run = findRun(tx, environment, runId)
  const finished = tx
    .all("SELECT * FROM steps WHERE run = ? AND kind <> 'parallel' ORDER BY seq", run.key!)
    .map((row): RunStep => {
      const output =
        Number(row.failed) === 0 && row.value !== null ? decodeStored(String(row.value)) : undefined
      return {
        id: `${runId}:${row.step_key}`,
        name: String(row.name),
        kind: String(row.kind),
        status: Number(row.failed) === 0 ? "completed" : "failed",
        attempt: Number(row.attempt),
        ...(output === undefined ? {} : { output }),
        ...(Number(row.failed) === 0 ? {} : { error: runError(row.value) }),
        startedAt: iso(row.started_at),
        endedAt: iso(row.ended_at)
      }
    })
  const open = tx
    .all(`SELECT * FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}' ORDER BY created_at`, run.key!)
    .map((row): RunStep => ({
      id: `${runId}:${row.step_key}`,
      name: String(row.name),
      kind: String(row.step_kind),
      status: "waiting",
      attempt: Number(row.failures) + 1,
      ...(Number(row.kind) === WaitKind.retry && row.value !== null ? { error: runError(row.value) } : {}),
      startedAt: iso(row.created_at),
      ...(row.due_at === null ? {} : { dueAt: iso(row.due_at) })
    }))
  return [...finished, ...open]
}

const kindNames = {
  [WaitKind.sleep]: "sleep",
  [WaitKind.event]: "event",
  [WaitKind.child]: "child",
  [WaitKind.retry]: "retry",
  [WaitKind.runRetry]: "run-retry"
} as const

export const getSituation = (tx: Transaction, environment: string, runId: string): RunSituation => {
  const row = findRun(tx, environment, runId)
  const fn = tx.registry.byKey(Number(row.function))
  const holders =
    row.concurrency_key === null
      ? []
      : tx
          .all(
            "SELECT id FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL LIMIT 20",
            row.function!,
            row.concurrency_key!
          )
          .map((holder) => String(holder.id))
  const held =
    row.concurrency_key === null
      ? 0
      : Number(
          tx.get(
            "SELECT count(*) AS held FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL",
            row.function!,
            row.concurrency_key!
          )?.held
        )
  const bound =
    row.actor === null
      ? undefined
      : tx.get("SELECT worker FROM actors WHERE function = ? AND actor = ?", row.function!, row.actor!)
  const damage = tx.damage.why("run", Number(row.key))
  return {
    run: readRun(tx, row),
    environment,
    ...(damage === undefined ? {} : { damage }),
    held,
    holders,
    waits: tx
      .all("SELECT * FROM waits WHERE run = ? ORDER BY due_at", row.key!)
      .map((wait) => waitOf(tx, runId, wait)),
    ...(row.lease === null
      ? {}
      : {
          lease: {
            workerId: String(row.worker),
            ...(row.lease_until === null ? {} : { until: iso(row.lease_until) })
          }
        }),
    ...(row.ready_at === null ? {} : { readyAt: Number(row.ready_at) }),
    ...(row.concurrency_key === null ? {} : { concurrencyKey: String(row.concurrency_key) }),
    ...(row.pause === null ? {} : { pause: parseStored(String(row.pause)) }),
    ...(fn === undefined ? {} : { registration: fn.registration, functionDeleted: fn.deleted === true }),
    ...(bound === undefined ? {} : { actorWorkerId: String(bound.worker) })
  }
}

const waitOf = (tx: Transaction, runId: string, row: Row): RunSituation["waits"][number] => {
  // written by this store from `WaitKind`
  const kind = Number(row.kind) as keyof typeof kindNames
  const match = row.match_path ?? row.expression
  const child = row.child === null ? undefined : tx.get("SELECT id FROM runs WHERE key = ?", row.child!)
  return {
    stepId: `${runId}:${row.step_key}`,
    name: String(row.name),
    kind: kindNames[kind],
    fired: row.fired !== null,
    failures: Number(row.failures),
    ...(row.due_at === null ? {} : { dueAt: Number(row.due_at) }),
    ...(row.event === null ? {} : { event: String(row.pattern ?? row.event) }),
    ...(match == null ? {} : { match: String(match) }),
    ...(row.match_value === null ? {} : { matchValue: String(row.match_value) }),
    ...(child === undefined ? {} : { childRunId: String(child.id) }),
    ...(kind === WaitKind.retry && row.value !== null ? { error: runError(row.value).message } : {})
  }
}

export const listFunctions = (tx: Transaction, environment: string): Array<FunctionInfo> =>
  tx.registry.list(environment).map((fn) => {
    const row = tx.get("SELECT version, created_at, updated_at FROM functions WHERE key = ?", fn.key)
    return {
      id: fn.registration.id,
      name: fn.registration.name,
      triggers: fn.registration.triggers,
      version: Number(row?.version),
      codeHash: fn.registration.codeHash,
      createdAt: iso(row?.created_at),
      updatedAt: iso(row?.updated_at)
    }
  })

/** Unfinished runs that nothing will ever move (guarantee G2). */
export const countStuckRuns = (tx: Transaction): number =>
  Number(
    tx.get(
      `SELECT count(*) AS stuck FROM runs r WHERE r.ended_at IS NULL AND r.lease IS NULL AND r.ready_at IS NULL
       AND r.status <> ${Status.paused}
       AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.key AND w.fired IS NULL AND w.due_at IS NOT NULL)`
    )?.stuck
  )

const iso = (value: unknown): string => new Date(Number(value)).toISOString()
