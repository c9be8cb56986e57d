/**
 * Fires due work: sleeps, retries, timeouts of waits, expired leases, schedules, expired KV keys. Also continues deliveries of
 * events and cancellations of runs that did not fit into their first transaction.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { countRunEvent } from "../Runs/RunStats.ts"
import { forgetSuspectsElsewhere, suspectsOf } from "../Runs/Suspects.ts"
import type { StoreService } from "../Store/Store.ts"
import {
  allIsolatingDamage,
  isolateRow,
  get,
  statement,
  type Program,
  variant,
  write,
  acrossEnvironments,
  inEnvironment
} from "../Store/Program.ts"
import { InvokeTimeoutError, serializeError, WaitTimeoutError, type StoreError } from "../../Errors.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { environmentsToSweep, nextSweepAt, sweep } from "../Kv/KvSweep.ts"
import { waitFilterOf, findAcceptedEvent } from "../Log/WaitFilter.ts"
import { environmentsOfEvents, continueDeliveries, hasDeliveries } from "../Events/FireWaits.ts"
import { oldestFanOut } from "../Log/WaitFanOuts.ts"
import { triggerView } from "../Runs/RunEvent.ts"
import { environmentsOfExpired, expireLeases } from "../Turns/LostLeases.ts"
import { environmentsOfCancellations, continueCancelling, hasNotedCancellations } from "../Runs/CancelRun.ts"
import { environmentOfKey } from "../Runs/RunEnvironment.ts"
import { defineCache } from "../Store/Cache.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import { environmentsOfSchedules, fireSchedules } from "./FireSchedules.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { RUN_ITSELF, WaitKind } from "../Runs/WaitKinds.ts"
import { type AcceptedEvent, deliverEvent, fireWait, makeReady } from "../Runs/Waits.ts"

/** Maximum number of due items of one kind in a batch, of all environments together. */
const BATCH = 512

/**
 * The kinds of due work. Each kind is fired by programs of its own, so that an error in one kind does not hold up the other
 * kinds.
 */
const kindsOfDueWork = ["events", "cancellations", "waits", "leases", "schedules", "keys"] as const

type DueWork = (typeof kindsOfDueWork)[number]

/** Counts how often environments with due work were looked up. */
const lookups = defineCache<{ count: number }>({ make: () => ({ count: 0 }) })

/**
 * The environments of the first due items of one kind. The caller then fires the items of each environment by a program of its
 * own.
 */
const findEnvironmentsWithDue = acrossEnvironments(
  "findEnvironmentsWithDue",
  function* (tx: Transaction, kind: DueWork): Program<ReadonlyArray<string>> {
    const found = new Set(
      (yield* environmentsWithDue(tx, kind)).map(({ environment }) => Number(environment))
    )
    const names = [...found].map((key) => tx.environmentName(key))
    // the environments take turns to come first, because the first one may use up the room of a transaction
    const first = lookups(tx).count++ % Math.max(1, names.length)
    return [...names.slice(first), ...names.slice(0, first)]
  },
  () => "fire timers"
)

const environmentsWithDue = (tx: Transaction, kind: DueWork): Program<ReadonlyArray<Row>> => {
  switch (kind) {
    case "events":
      return environmentsOfEvents(BATCH)
    case "cancellations":
      return environmentsOfCancellations(tx)
    case "waits":
      return environmentsOfWaits(tx)
    case "leases":
      return environmentsOfExpired(tx, BATCH)
    case "schedules":
      return environmentsOfSchedules(tx, BATCH)
    case "keys":
      return environmentsToSweep(tx, BATCH)
  }
}

/** Fires the due items of one kind in one environment. Returns their number. */
const fireDueKind = inEnvironment(
  "fireDueKind",
  function* (tx: Transaction, environment: string, kind: DueWork): Program<number> {
    const environmentKey = tx.findEnvironment(environment)
    if (environmentKey === undefined) return 0
    switch (kind) {
      case "events":
        return yield* continueDeliveries(tx, environmentKey)
      case "cancellations":
        return yield* continueCancelling(tx, environmentKey)
      case "waits":
        return yield* fireWaits(tx, environmentKey)
      case "leases":
        return yield* expireLeases(tx, environmentKey, BATCH)
      case "schedules":
        return yield* fireSchedules(tx, environmentKey, BATCH)
      case "keys":
        return yield* sweep(tx, environmentKey, BATCH)
    }
  },
  () => "fire timers"
)

const LIST_RUNS_WITH_DUE_WAITS = statement(
  "FireDue.listRunsWithDueWaits",
  "SELECT DISTINCT run AS key FROM waits WHERE due_at <= ?",
  {
    scans: "the due waits: only when one of them is damaged"
  }
)

const LIST_DUE =
  "SELECT * FROM waits WHERE due_at <= ? @sound(run, run) ORDER BY due_at, run, step_key LIMIT ?"

const LIST_DUE_WAITS_IN_ENVIRONMENT = statement(
  "FireDue.listDueWaitsInEnvironment",
  `SELECT * FROM (${LIST_DUE}) AS due WHERE ${environmentOfKey("due.run")} = ?`,
  { scans: "a batch of due waits" }
)

const LIST_ENVIRONMENTS_OF_DUE_WAITS = statement(
  "FireDue.listEnvironmentsOfDueWaits",
  `SELECT DISTINCT ${environmentOfKey("due.run")} AS environment FROM (${LIST_DUE}) AS due`,
  { scans: "a batch of due waits" }
)

function* environmentsOfWaits(tx: Transaction): Program<ReadonlyArray<Row>> {
  const now = tx.now()
  return yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_RUNS_WITH_DUE_WAITS, now],
    LIST_ENVIRONMENTS_OF_DUE_WAITS,
    now,
    BATCH
  )
}

function* fireWaits(tx: Transaction, environment: number): Program<number> {
  const now = tx.now()
  const rows = yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_RUNS_WITH_DUE_WAITS, now],
    LIST_DUE_WAITS_IN_ENVIRONMENT,
    now,
    BATCH,
    environment
  )
  let fired = 0
  for (const row of rows) {
    // the other waits are fired by the next transaction, which follows at once
    if (fired > 0 && (tx.budget.isFull || !tx.budget.mayEvaluate)) break
    yield* isolateRow(tx, "run", Number(row.run), fire(tx, environment, row))
    fired++
  }
  return fired
}

/**
 * When the next item is due, in any environment, in epoch milliseconds. Damaged items are left out, because they would be due for
 * ever.
 */
const nextDueAt = acrossEnvironments(
  "nextDueAt",
  function* (tx: Transaction): Program<number> {
    // when the trial of a suspect (see `Suspects.ts`) is over, its worker may get other suspects
    yield* forgetSuspectsElsewhere(tx)
    if (suspectsOf(tx).hasPastTrial(tx.now())) tx.changes.ready = true
    if ((yield* hasDeliveries()) || (yield* hasNotedCancellations())) return tx.now()
    const { damage } = tx
    const row = yield* get(
      variant(
        "FireDue.nextDueAt",
        `SELECT (SELECT due_at FROM waits WHERE due_at IS NOT NULL${damage.soundCondition("run", "run")} ORDER BY due_at LIMIT 1) AS wait,
         (SELECT lease_until FROM runs WHERE lease_until IS NOT NULL${damage.soundCondition("run", "key")} ORDER BY lease_until LIMIT 1) AS lease,
         (SELECT next_at FROM schedules WHERE next_at IS NOT NULL${damage.soundCondition("schedule", "function")} ORDER BY next_at LIMIT 1) AS schedule`
      )
    )
    return Math.min(
      yield* nextSweepAt(tx),
      suspectsOf(tx).nextTrialEndAt(tx.now()),
      row?.schedule == null ? Number.POSITIVE_INFINITY : Number(row.schedule),
      row?.wait == null ? Number.POSITIVE_INFINITY : Number(row.wait),
      row?.lease == null ? Number.POSITIVE_INFINITY : Number(row.lease)
    )
  },
  () => "fire timers"
)

const FIND_RUN_ID = statement("FireDue.findRunId", "SELECT id FROM runs WHERE key = ? AND environment = ?")

const DELETE_WAIT = statement("FireDue.deleteWait", "DELETE FROM waits WHERE run = ? AND step_key = ?")

function* fire(tx: Transaction, environment: number, row: Row): Program<void> {
  const run = Number(row.run)
  const stepKey = String(row.step_key)
  countRunEvent(tx, "timerLateness", 0, tx.now() - Number(row.due_at))
  switch (Number(row.kind)) {
    case WaitKind.sleep:
      return yield* fireWait(tx, run, stepKey, { _tag: "Success", value: undefined })
    case WaitKind.retry:
      return yield* fireWait(tx, run, stepKey, undefined)
    case WaitKind.event: {
      const earlier = yield* eventBefore(tx, row)
      if (earlier !== undefined) return yield* deliverEvent(tx, run, stepKey, earlier)
      return yield* fireWait(
        tx,
        run,
        stepKey,
        failure(
          new WaitTimeoutError(String(row.name), String(row.pattern ?? row.event), Number(row.timeout_ms))
        )
      )
    }
    case WaitKind.child: {
      const child = yield* get(FIND_RUN_ID, row.child!, environment)
      return yield* fireWait(
        tx,
        run,
        stepKey,
        failure(new InvokeTimeoutError(String(row.event), String(child?.id ?? ""), Number(row.timeout_ms)))
      )
    }
    case WaitKind.runRetry:
      yield* write(DELETE_WAIT, run, RUN_ITSELF)
      return yield* makeReady(tx, run)
  }
}

/**
 * An event that a wait accepts although the timeout of the wait is due: the event was stored before the timeout fell due, and is
 * still being delivered. `undefined` if there is no such event.
 */
function* eventBefore(tx: Transaction, wait: Row): Program<AcceptedEvent | undefined> {
  const oldest = yield* oldestFanOut(Number(wait.environment), String(wait.event))
  if (oldest === undefined) return undefined
  const found = yield* findAcceptedEvent(
    tx,
    Number(wait.environment),
    waitFilterOf(wait),
    Math.max(oldest - 1, Number(wait.looked_back_to)),
    () => triggerView(Number(wait.run))
  )
  return found === undefined ? undefined : { position: found.position, text: () => found.view.toText() }
}

const failure = (error: Error): Outcome => ({ _tag: "Failure", error: serializeError(error) })

interface FireResult {
  /** How many due items were fired. */
  readonly count: number
  /** When the next item is due, in epoch milliseconds; `Infinity` when none is known. */
  readonly nextDueAt: number
  /** The first error, when some due items could not be fired. */
  readonly failed?: StoreError
}

/**
 * Finds the environments where items of a kind are due. If items are damaged, a write transaction looks again: only such a
 * transaction can find the damaged items and leave them out.
 */
const placesWhereDue = (
  store: StoreService,
  kind: DueWork
): Effect.Effect<ReadonlyArray<readonly [environment: string, kind: DueWork]>, StoreError> =>
  Effect.map(
    Effect.catchIf(store.read(findEnvironmentsWithDue(kind)), isDamage, () =>
      store.write(findEnvironmentsWithDue(kind))
    ),
    (environments) => environments.map((environment) => [environment, kind] as const)
  )

/**
 * Fires due items in all environments. The items of each environment are fired by a program of its own. Items that did not fit
 * into the batch are still due: `nextDueAt` is then in the past.
 */
export const fireDue = (store: StoreService): Effect.Effect<FireResult, StoreError> =>
  Effect.gen(function* () {
    const places = yield* Effect.forEach(kindsOfDueWork, (kind) => Effect.result(placesWhereDue(store, kind)))
    // these programs are submitted together, so they share a transaction
    const [fired, next] = yield* Effect.all(
      [
        Effect.forEach(
          places.filter(Result.isSuccess).flatMap(({ success }) => success),
          ([environment, kind]) => Effect.result(store.write(fireDueKind(environment, kind))),
          { concurrency: "unbounded" }
        ),
        Effect.result(store.write(nextDueAt()))
      ],
      { concurrency: "unbounded" }
    )
    const results: ReadonlyArray<Result.Result<unknown, StoreError>> = [...places, ...fired, next]
    const failed = results.find(Result.isFailure)?.failure
    if (Result.isFailure(next) && !fired.some(Result.isSuccess)) return yield* Effect.fail(next.failure)
    return {
      count: fired.filter(Result.isSuccess).reduce((sum, { success }) => sum + success, 0),
      nextDueAt: Result.isSuccess(next) ? next.success : Number.POSITIVE_INFINITY,
      ...(failed === undefined ? {} : { failed })
    }
  })
