/**
 * Pending calls of hooks. A hook is a URL in the option `hooks`, which the engine calls. A call is stored in the transaction that
 * caused it, and stays until the hook has accepted the call or its attempts are used up. The hooks themselves are kept in memory,
 * so that neither URLs nor secrets are in the database.
 */
import type { Hook, HookCall, HookEvent } from "../../Hook.ts"
import type { JsonText } from "../../Json.ts"
import { matchesGlob } from "../../Policy.ts"
import { defineCache } from "../Store/Cache.ts"
import { acrossEnvironments, all, get, type Program, statement, write } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** Maximum number of calls that are kept. Further calls are dropped. */
export const MAX_CALLS = 10_000

/** The part of a hook that decides which calls it gets. The URL and the secret are not needed here. */
export type ListeningHook = Pick<Hook, "key" | "functionId" | "environment"> & {
  readonly on: ReadonlyArray<HookEvent>
}

interface HookCache {
  hooks: ReadonlyArray<ListeningHook>
  /** How many more calls may be stored. This is an estimate, because it ignores rollbacks and the calls of other engines. */
  freeCalls: number
  /** How many calls were dropped since the last {@link takeDropped}. Includes calls of transactions that were rolled back. */
  dropped: number
}

const hooksOf = defineCache<HookCache>({ make: () => ({ hooks: [], freeCalls: 0, dropped: 0 }) })

const COUNT_CALLS = statement("HookCalls.countCalls", "SELECT count(*) AS calls FROM hook_calls", {
  scans: "the pending calls, 10,000 at most"
})

/** Replaces all hooks by the given ones. */
export const setHooks = acrossEnvironments(
  "setHooks",
  function* (tx: Transaction, hooks: ReadonlyArray<ListeningHook>): Program<void> {
    const cache = hooksOf(tx)
    cache.hooks = hooks
    cache.freeCalls = MAX_CALLS - Number((yield* get(COUNT_CALLS))?.calls)
  },
  () => "set the hooks"
)

const INSERT_CALL = statement(
  "HookCalls.insertCall",
  "INSERT INTO hook_calls (id, hook, body, due_at) VALUES (?, ?, ?, ?)"
)

/** Stores the hook calls for an event. */
export function* callHooks(
  tx: Transaction,
  type: HookEvent,
  environment: string,
  data: HookCall["data"],
  at?: number
): Program<void> {
  const cache = hooksOf(tx)
  if (cache.hooks.length === 0) return
  const now = at ?? tx.now()
  for (const hook of cache.hooks) {
    if (!hook.on.includes(type) || !matchesGlob(hook.functionId, data.functionId)) continue
    if (hook.environment !== undefined && hook.environment !== environment) continue
    if (cache.freeCalls <= 0) {
      cache.dropped++
      continue
    }
    cache.freeCalls--
    const id = tx.ids.hookCall()
    const call: HookCall = { id, type, at: new Date(now).toISOString(), environment, data }
    yield* write(INSERT_CALL, id, hook.key, JSON.stringify(call), now)
  }
}

/** A call that is due. */
export interface DueCall {
  readonly id: string
  readonly body: JsonText
  /** How many attempts have failed. */
  readonly attempts: number
}

/** The due calls of a hook. */
export interface DueCalls {
  readonly calls: ReadonlyArray<DueCall>
  /** When the next call is due, in epoch milliseconds. Only set when no call is due now. */
  readonly nextAt: number | undefined
}

const LIST_DUE_CALLS = statement(
  "HookCalls.listDueCalls",
  "SELECT id, body, attempts FROM hook_calls WHERE hook = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?"
)

const FIND_NEXT_DUE_TIME = statement(
  "HookCalls.findNextDueTime",
  "SELECT due_at FROM hook_calls WHERE hook = ? ORDER BY due_at LIMIT 1"
)

/** The due calls of a hook, oldest first, `limit` at most. */
export const dueCalls = acrossEnvironments(
  "dueCalls",
  function* (tx: Transaction, hook: string, limit: number): Program<DueCalls> {
    const rows = yield* all(LIST_DUE_CALLS, hook, tx.now(), limit)
    const next = rows.length > 0 ? undefined : yield* get(FIND_NEXT_DUE_TIME, hook)
    return {
      calls: rows.map(({ attempts, body, id }) => ({
        id: String(id),
        body: String(body),
        attempts: Number(attempts)
      })),
      nextAt: next === undefined ? undefined : Number(next.due_at)
    }
  },
  () => "read the calls of a hook"
)

const DELETE_CALL = statement("HookCalls.deleteCall", "DELETE FROM hook_calls WHERE id = ?")
const UPDATE_ATTEMPTS = statement(
  "HookCalls.updateAttempts",
  "UPDATE hook_calls SET attempts = ?, due_at = ? WHERE id = ?"
)

/** The result of an attempt to make a call. */
export interface CallResult {
  readonly id: string
  /**
   * For another attempt: how many attempts have failed, and when the next attempt is due, in epoch milliseconds. Absent when the
   * call is done or given up.
   */
  readonly nextAttempt?: { readonly attempts: number; readonly dueAt: number }
}

/** Stores the results of calls: deletes the calls that are done or given up, and notes when the others are due again. */
export const settleCalls = acrossEnvironments(
  "settleCalls",
  function* (tx: Transaction, results: ReadonlyArray<CallResult>): Program<void> {
    const cache = hooksOf(tx)
    for (const { id, nextAttempt } of results) {
      if (nextAttempt !== undefined) {
        yield* write(UPDATE_ATTEMPTS, nextAttempt.attempts, nextAttempt.dueAt, id)
        continue
      }
      cache.freeCalls++
      yield* write(DELETE_CALL, id)
    }
  },
  () => "note which hooks were called"
)

const LIST_CALLS_ABOUT_RUN = statement(
  "HookCalls.listCallsAboutRun",
  "SELECT id FROM hook_calls WHERE body LIKE ?",
  {
    scans: "the pending calls, 10,000 at most"
  }
)

/** Drops the calls about a run whose data was erased. */
export function* dropCalls(tx: Transaction, runId: string): Program<void> {
  const cache = hooksOf(tx)
  for (const { id } of yield* all(LIST_CALLS_ABOUT_RUN, `%"${runId}"%`)) {
    cache.freeCalls++
    yield* write(DELETE_CALL, id!)
  }
}

const COUNT_CALLS_BY_HOOK = statement(
  "HookCalls.countCallsByHook",
  "SELECT hook, count(*) AS calls FROM hook_calls GROUP BY hook",
  {
    scans: "the pending calls, 10,000 at most"
  }
)

/** The number of pending calls, by hook key. */
export const countCalls = acrossEnvironments(
  "countCalls",
  function* (_tx: Transaction): Program<ReadonlyArray<{ readonly hook: string; readonly calls: number }>> {
    return (yield* all(COUNT_CALLS_BY_HOOK)).map(({ calls, hook }) => ({
      hook: String(hook),
      calls: Number(calls)
    }))
  },
  () => "count the calls of hooks"
)

const DELETE_CALLS_OF_HOOK = statement("HookCalls.deleteCallsOfHook", "DELETE FROM hook_calls WHERE hook = ?")

/** Deletes the calls of a hook that no longer exists. `calls` is the number of these calls. */
export const forgetHook = acrossEnvironments(
  "forgetHook",
  function* (tx: Transaction, hook: string, calls: number): Program<void> {
    hooksOf(tx).freeCalls += calls
    yield* write(DELETE_CALLS_OF_HOOK, hook)
  },
  () => "forget a hook"
)

/** Returns how many calls were dropped since this was called last. Also counts anew how many more calls may be stored. */
export const takeDropped = acrossEnvironments(
  "takeDropped",
  function* (tx: Transaction): Program<number> {
    const cache = hooksOf(tx)
    const { dropped } = cache
    cache.dropped = 0
    cache.freeCalls = MAX_CALLS - Number((yield* get(COUNT_CALLS))?.calls)
    return dropped
  },
  () => "count the calls of hooks that there was no room for"
)
