/**
 * Applies the reports of workers: checks whether the job of a report still holds the run, applies its ops, and makes the answer.
 */
import { DEFAULT_ENVIRONMENT } from "../../Constants.ts"
import {
  statement,
  acrossEnvironments,
  inEnvironment,
  forEach,
  type Program,
  get,
  write
} from "../Store/Program.ts"
import type { Transaction, Row } from "../Store/Transaction.ts"
import { makeReady } from "../Runs/Waits.ts"
import { type TurnReport, type TurnAck, endsTurn, type TurnOp, type Outcome } from "../../Protocol/Worker.ts"
import { cachedRunOf, type LeasedRun } from "../Runs/LeaseCache.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import { holdingJob, revokedLease } from "../Runs/RevokedLeases.ts"
import { endRevokedLease, revokeLease } from "../Runs/EndLease.ts"
import { type Batch, noteBatch } from "../Runs/EngineWorkers.ts"
import { keepLogs } from "../Runs/RunLogs.ts"
import { countRunEvent } from "../Runs/RunStats.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { type TransitionName, nextStatus, refusal } from "../Runs/Transitions.ts"
import { applyOp, applyStepDone } from "./Ops.ts"
import type { StoreService } from "../Store/Store.ts"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"

const FIND_OPEN_RUN = statement(
  "Reports.findOpenRun",
  // the `+` makes SQLite use the index of ids, and not the index of unfinished runs
  "SELECT key, environment, linger_ms FROM runs WHERE id = ? AND +ended_at IS NULL"
)

const UPDATE_LINGER = statement("Reports.updateLinger", "UPDATE runs SET linger_ms = ? WHERE key = ?")

/** Minimum time, in milliseconds, that a turn waits for the handler, when the handler went on after an earlier turn had ended. */
const MIN_LINGER_MS = 50
/** Maximum time, in milliseconds, that a turn waits for such a handler. */
const MAX_LINGER_MS = 5000

/**
 * Makes a run ready again, because its handler went on after the turn had ended. `lingerMs` is how long that turn waited for the
 * handler. The next turns of the run wait longer.
 */
export const noteHandlerWentOn = inEnvironment(
  "noteHandlerWentOn",
  function* (tx: Transaction, environment: string, runId: string, lingerMs: number): Program<void> {
    const row = yield* get(FIND_OPEN_RUN, runId)
    if (row === undefined || !isKeyOf(tx, Number(row.environment), environment)) return
    const newLingerMs = Math.min(MAX_LINGER_MS, Math.max(MIN_LINGER_MS, lingerMs * 2, Number(row.linger_ms)))
    yield* write(UPDATE_LINGER, newLingerMs, row.key!)
    yield* makeReady(tx, Number(row.key))
  },
  (_, runId) => `wake run ${runId}`
)

/** Applies reports one by one, so that a damaged run does not affect the reports of others. */
const applyAllReports = inEnvironment(
  "applyAllReports",
  function* (
    tx: Transaction,
    environment: string,
    reports: ReadonlyArray<TurnReport>,
    revokesOnPause: boolean,
    batch?: Batch
  ): Program<ReadonlyArray<TurnAck>> {
    const acks: Array<TurnAck> = []
    for (const report of reports) acks.push(yield* applyOrBlame(tx, report, environment, revokesOnPause))
    if (batch !== undefined) yield* noteBatch(tx, batch, acks)
    return acks
  },
  () => "store reports",
  { allowsHeldWrites: true }
)

const FIND_KEY_OF_RUN = statement("Reports.findKeyOfRun", "SELECT key FROM runs WHERE id = ?")

/** Applies a report. If that fails, notes the run as the possible cause. */
function* applyOrBlame(
  tx: Transaction,
  report: TurnReport,
  environment: string,
  revokesOnPause: boolean
): Program<TurnAck> {
  // the run is looked up before the report is applied, since the cache of leases forgets a run as soon as it ends
  const cachedRun = cachedRunOf(tx, report.jobId)
  try {
    if (tx.damage.skippedCount > 0) {
      const key = cachedRun?.key ?? (yield* get(FIND_KEY_OF_RUN, report.runId))?.key
      const damage = key === undefined ? undefined : tx.damage.reasonOf("run", Number(key))
      if (damage !== undefined) return refusalForDamage(report, damage)
    }
    return yield* applyReport(tx, report, cachedRun, environment, revokesOnPause)
  } catch (error) {
    // if the database is not damaged, the report itself may be the cause
    const isCertain = isDamage(error)
    if (cachedRun !== undefined)
      tx.blame({
        error,
        kind: "run",
        keys: { statement: FIND_RUN_BY_KEY, values: [cachedRun.key] },
        isCertain
      })
    else
      tx.blame({ error, kind: "run", keys: { statement: FIND_RUN_BY_ID, values: [report.runId] }, isCertain })
    throw error
  }
}

const FIND_RUN_BY_KEY = statement("Reports.findRunByKey", "SELECT key FROM runs WHERE key = ?")

const FIND_RUN_BY_ID = statement("Reports.findRunById", "SELECT key FROM runs WHERE id = ?")

/**
 * The answer to a report that cannot be stored. Without an answer, the worker would send the report for ever, together with the
 * other reports of its batch.
 */
const refusalForDamage = ({ runId }: TurnReport, why: string): TurnAck => ({
  _tag: "Refused",
  reason: "LEASE_LOST",
  message: `Run ${runId} cannot be stored, since the database is damaged: ${why}`
})

const FIND_RUN = statement(
  "Reports.findRun",
  "SELECT key, environment, function, status, event, parent, lease, worker, lease_until, pause FROM runs WHERE id = ?"
)

/**
 * Applies a report if its job holds the run, and the run is of the environment. `cachedRun` is the run of the job, if the lease
 * is in the cache. `revokesOnPause`: see {@link applyReports}.
 */
function* applyReport(
  tx: Transaction,
  report: TurnReport,
  cachedRun: LeasedRun | undefined,
  environment: string,
  revokesOnPause: boolean
): Program<TurnAck> {
  if (
    cachedRun !== undefined &&
    cachedRun.id === report.runId &&
    isKeyOf(tx, cachedRun.environment, environment)
  ) {
    return (
      refusalAsImpossible(tx, cachedRun, report) ?? {
        _tag: "Accepted",
        outcomes: yield* applyOps(tx, cachedRun, report)
      }
    )
  }
  const row = yield* get(FIND_RUN, report.runId)
  const isFound = row !== undefined && isKeyOf(tx, Number(row.environment), environment)
  const last = report.ops.at(-1)
  const endsItsTurn = last !== undefined && endsTurn(last)
  if (!isFound || holdingJob(row) !== report.jobId) {
    tx.changes.counts.staleReports++
    if (isFound) countRunEvent(tx, "stale", Number(row.function))
    // the worker has ended the turn, whatever the answer is
    if (isFound && endsItsTurn && row.lease === revokedLease(report.jobId))
      yield* endRevokedLease(tx, Number(row.key))
    return isFound && statusIn(row) === "cancelled"
      ? { _tag: "Refused", reason: "CANCELLED", message: `Run ${report.runId} was cancelled` }
      : {
          _tag: "Refused",
          reason: "LEASE_LOST",
          message: `Run ${report.runId} is not leased to job ${report.jobId} any more`
        }
  }
  const run: LeasedRun = {
    key: Number(row.key),
    jobId: report.jobId,
    id: report.runId,
    environment: Number(row.environment),
    function: Number(row.function),
    status: statusIn(row),
    event: Number(row.event),
    parent: row.parent === null ? null : Number(row.parent),
    ...(row.worker === null ? {} : { worker: String(row.worker) }),
    mayHaveWaits: true
  }
  const refused = refusalAsImpossible(tx, run, report)
  if (refused !== undefined) return refused
  const outcomes = yield* applyOps(tx, run, report)
  // if the turn has ended, its lease has ended too, and the requested pause has begun already
  if (row.pause === null || endsItsTurn) return { _tag: "Accepted", outcomes }
  return revokesOnPause
    ? yield* revokePaused(tx, run, row, report)
    : { _tag: "Accepted", outcomes, paused: true }
}

/** The transition of the run that an op causes, if any. */
const transitionOf = (op: TurnOp): TransitionName | undefined => {
  switch (op._tag) {
    case "Complete":
      return "completed"
    case "Fail":
      return "failed"
    case "Compensate":
      return "compensationBegan"
    case "RetryRun":
      return "attemptFailed"
    case "Suspend":
      return "suspended"
    case "Pause":
      return "stopped"
    case "Release":
      return "released"
  }
}

/**
 * The answer to a report with a transition that the status of the run does not allow, such as a completion while the run rolls
 * back. Such a report is refused as a whole. `undefined` for other reports.
 */
const refusalAsImpossible = (tx: Transaction, run: LeasedRun, report: TurnReport): TurnAck | undefined => {
  let { status } = run
  for (const op of report.ops) {
    const transition = transitionOf(op)
    if (transition === undefined) continue
    const next = status === undefined ? undefined : nextStatus(status, transition)
    if (next === undefined) {
      tx.changes.counts.staleReports++
      return { _tag: "Refused", reason: "LEASE_LOST", message: refusal(run.id, status, transition) }
    }
    status = next
  }
}

function* applyOps(
  tx: Transaction,
  run: LeasedRun,
  report: TurnReport
): Program<ReadonlyArray<Outcome | undefined>> {
  const outcomes: Array<Outcome | undefined> = []
  for (const op of report.ops) {
    outcomes.push(op._tag === "StepDone" ? yield* applyStepDone(tx, run, op) : yield* applyOp(tx, run, op))
  }
  const last = report.ops.at(-1)
  if (run.since !== undefined && last !== undefined && endsTurn(last)) {
    countRunEvent(tx, "turn", run.function, tx.now() - run.since)
  }
  if (report.logs !== undefined) yield* keepLogs(tx, run.key, report.logs)
  return outcomes
}

/** Whether this is the key of the environment. */
const isKeyOf = (tx: Transaction, key: number, environment: string): boolean =>
  key === tx.findEnvironment(environment)

/**
 * For a worker that does not understand pauses: revokes the lease after the report was stored, and makes an answer that refuses
 * the report. After any other answer, the worker would continue the run.
 */
function* revokePaused(tx: Transaction, run: LeasedRun, row: Row, report: TurnReport): Program<TurnAck> {
  yield* revokeLease(tx, row, report.jobId, "the run was paused")
  return {
    _tag: "Refused",
    reason: "LEASE_LOST",
    message: `Run ${run.id} was paused; what was reported is stored`
  }
}

/**
 * Applies reports, each completely or not at all. A report changes nothing when its job does not hold the lease, or when its run
 * is of another environment than `environment`. `revokesOnPause` is for workers that do not understand pauses: when the run is to
 * be paused, the job loses its lease, and the answer is a refusal although the report is stored.
 */
export const applyReports = (
  store: StoreService,
  environment: string,
  reports: ReadonlyArray<TurnReport>,
  { batch, revokesOnPause = false }: { readonly revokesOnPause?: boolean; readonly batch?: Batch } = {}
): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> => {
  const apply = (some: ReadonlyArray<TurnReport>, batchOfSome?: Batch) =>
    store.write(applyAllReports(environment, some, revokesOnPause, batchOfSome))
  // used when it is unknown which run is damaged: then only the reports that meet the damage are refused
  const applyInOwnTransaction = (report: TurnReport) =>
    Effect.catchIf(apply([report]), isDamage, (error) =>
      Effect.succeed([refusalForDamage(report, error.message)])
    )
  return Effect.catchIf(apply(reports, batch), isDamage, () =>
    Effect.map(Effect.forEach(reports, applyInOwnTransaction, { concurrency: "unbounded" }), (acks) =>
      acks.flat()
    )
  )
}

const FIND_ENVIRONMENT_OF_RUN = statement(
  "Reports.findEnvironmentOfRun",
  "SELECT environment FROM runs WHERE id = ?"
)

/** The environments of runs, for a caller that does not know them. */
const environmentsOfRuns = acrossEnvironments(
  "environmentsOfRuns",
  function* (tx: Transaction, runIds: ReadonlyArray<string>): Program<ReadonlyArray<string>> {
    return yield* forEach(runIds, function* (runId): Program<string> {
      const row = yield* get(FIND_ENVIRONMENT_OF_RUN, runId)
      // a report about a missing run is refused in every environment
      return row === undefined ? DEFAULT_ENVIRONMENT : tx.environmentName(Number(row.environment))
    })
  },
  () => "store reports"
)

/** Applies reports for a caller that knows the jobs and their runs, but not the environments of the runs. */
export const applyInAnyEnvironment = (
  store: StoreService,
  reports: ReadonlyArray<TurnReport>,
  options?: { readonly revokesOnPause?: boolean }
): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> =>
  Effect.gen(function* () {
    const environments = yield* store.read(environmentsOfRuns(reports.map(({ runId }) => runId)))
    const acks: Array<TurnAck> = []
    yield* Effect.forEach(
      new Set(environments),
      (environment) => {
        const places = [...environments.keys()].filter((i) => environments[i] === environment)
        const ofEnvironment = places.map((i) => reports[i]!)
        return Effect.map(applyReports(store, environment, ofEnvironment, options), (answers) => {
          for (const [i, ack] of answers.entries()) acks[places[i]!] = ack
        })
      },
      { concurrency: "unbounded", discard: true }
    )
    return acks
  })
