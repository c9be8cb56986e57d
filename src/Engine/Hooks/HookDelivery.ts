/**
 * Sends the calls of one hook when they are due, several at a time. A hook that does not answer holds up neither runs nor other
 * hooks: its calls wait in the database.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import { retryDelayMs } from "../../Backoff.ts"
import type { StoreError } from "../../Errors.ts"
import type { Hook, HookCall } from "../../Hook.ts"
import { safeJsonParse } from "../../Json.ts"
import { hookHeaders } from "../../Serve/HookSignature.ts"
import type { InputBudget } from "../InputBudget.ts"
import { post } from "../Push/HttpPost.ts"
import { type CallResult, dueCalls, type DueCall, settleCalls } from "../Runs/HookCalls.ts"
import { RETRY_MS, StoreOutage } from "../Store/StoreOutage.ts"
import type { StoreService } from "../Store/Store.ts"

/** Counts of calls of hooks since the engine started, by outcome. */
export interface HookCounts {
  delivered: number
  /** Attempts that failed and are followed by another attempt. */
  retried: number
  /** Calls that were given up after all attempts. */
  abandoned: number
  /** Calls that were never sent, for lack of room or because the engine no longer has the hook. */
  dropped: number
}

/** How many calls to one hook are open at a time. */
const MAX_OPEN_CALLS = 8

/** How long a hook may take to answer, in milliseconds. */
const TIMEOUT_MS = 10_000

/** Maximum number of bytes of a hook's answer that are read. */
const MAX_ANSWER_BYTES = 64 * 1024

/**
 * Maximum time, in milliseconds, before a delivery looks for due calls again. It is limited because somebody may change the clock
 * in the meantime.
 */
const LONGEST_WAIT_MS = 60_000

export interface DeliveryOptions {
  readonly hook: Hook
  readonly store: StoreService
  readonly inputBudget: InputBudget
  readonly allowPrivateNetworks: boolean
  readonly counts: HookCounts
}

/** The deliveries of one hook. */
export interface HookDelivery {
  /** Wakes the delivery, because there may be a new call. */
  readonly wake: () => void
  /** Sends calls, for ever. */
  readonly run: Effect.Effect<never>
}

export const makeHookDelivery = ({
  allowPrivateNetworks,
  counts,
  hook,
  inputBudget,
  store
}: DeliveryOptions): HookDelivery => {
  let woken = Deferred.makeUnsafe<void>()
  let isFailing = false
  const outage = new StoreOutage(
    `Hooks at ${hook.host} cannot be called`,
    `Hooks at ${hook.host} are called again`
  )

  /** Sends a call. Returns why the hook did not accept it; `undefined` when it did. */
  const send = ({ body }: DueCall): Effect.Effect<string | undefined> =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const request = {
        url: hook.url,
        body,
        headers: { "user-agent": "ironflow-hook", ...hookHeaders(body, Redacted.value(hook.secret), now) },
        timeoutMs: TIMEOUT_MS,
        maxResponseBytes: MAX_ANSWER_BYTES,
        allowPrivateNetworks,
        inputBudget
      }
      return yield* Effect.catch(
        post(request, ({ status }) =>
          Effect.succeed(status >= 200 && status < 300 ? undefined : `it answered ${status}`)
        ),
        ({ message }) => Effect.succeed(message)
      )
    })

  const call = (due: DueCall): Effect.Effect<CallResult> =>
    Effect.gen(function* () {
      const problem = yield* send(due)
      if (problem === undefined) {
        counts.delivered++
        if (isFailing) yield* Effect.logInfo(`The hook at ${hook.host} accepts calls again`)
        isFailing = false
        return { id: due.id }
      }
      const attempts = due.attempts + 1
      if (attempts >= hook.retry.maxAttempts) {
        counts.abandoned++
        yield* Effect.logError(
          `The hook at ${hook.host} was not told of ${subject(due)}: ${attempts} attempts failed, the last one because ${problem}`
        )
        return { id: due.id }
      }
      counts.retried++
      if (!isFailing) {
        yield* Effect.logWarning(
          `The hook at ${hook.host} did not accept the call about ${subject(due)}: ${problem}. The call is tried again`
        )
      }
      isFailing = true
      const chance = yield* Random.next
      const now = yield* Clock.currentTimeMillis
      const dueAt = now + retryDelayMs(hook.retry, attempts, chance)
      return { id: due.id, nextAttempt: { attempts, dueAt } }
    })

  const round: Effect.Effect<void, StoreError> = Effect.gen(function* () {
    // made before the query, so that a call that is stored during the query wakes the delivery
    woken = Deferred.makeUnsafe<void>()
    const { calls, nextAt } = yield* store.read(dueCalls(hook.key, MAX_OPEN_CALLS))
    yield* outage.succeeded()
    if (calls.length > 0) {
      const results = yield* Effect.forEach(calls, call, { concurrency: MAX_OPEN_CALLS })
      return yield* store.write(settleCalls(results))
    }
    const wakeUp = Deferred.await(woken)
    if (nextAt === undefined) return yield* wakeUp
    const leftMs = nextAt - (yield* Clock.currentTimeMillis)
    yield* Effect.raceFirst(wakeUp, Effect.sleep(Math.min(LONGEST_WAIT_MS, Math.max(1, leftMs))))
  })

  return {
    wake: () => Deferred.doneUnsafe(woken, Effect.void),
    run: Effect.forever(
      Effect.catch(round, (error) => Effect.andThen(outage.failed(error), Effect.sleep(RETRY_MS)))
    )
  }
}

/** What a call is about, as part of a log line. */
const subject = ({ body }: DueCall): string => {
  // only `callHooks` writes the body
  const { data, type } = safeJsonParse(body) as HookCall
  return data.runId === undefined
    ? `${type} of function "${data.functionId}"`
    : `${type} of run ${data.runId} of function "${data.functionId}"`
}
