/** Leases: who may run a turn, and what happens when the holder is gone. */
import {
  affected,
  all,
  among,
  apart,
  get,
  statement,
  type Program,
  type Statement,
  type Value,
  variant,
  write
} from "./Program.ts"
import { LimitExceededError, serializeError } from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import type { Job, JobEvent, JournalEntry, Notice, OpenStep } from "../../Protocol/Worker.ts"
import type { StepKind } from "../../StepKind.ts"
import { acceptsLabels, type RegisteredFunction } from "../Registry.ts"
import { entityOfRow } from "./Events.ts"
import { checkEvent, endRun, functionIdOf, invocationEventId } from "./RunRows.ts"
import type { Adoption, Claim, Demand } from "./Store.ts"
import { type Holder, readLease, whyStuck } from "./Stuck.ts"
import { isRevoked, jobOf, revoked } from "./RevokedLeases.ts"
import { readKind } from "./StepKinds.ts"
import { SUSPECT_FROM } from "./Suspects.ts"
import { moves, mustMove, statusIn } from "./StatusRows.ts"
import { type Row, RUN_ITSELF, type Transaction, WaitKind } from "./Transaction.ts"
import { endLease, endRevokedLease, isOf, pauseRow } from "./Turns.ts"
import { delayRun, makeReady, readOutcome } from "./Waits.ts"
import { parseStored } from "./StoredJson.ts"

/** After this many losses of a run without a new journal entry somebody has to look at it (guarantee G5). */
const LOSSES_UNTIL_PAUSE = 10

/** The longest lease that there was before their lengths were stored, milliseconds. */
export const LONGEST_LEASE_MS = 90_000

/** A worker with room, while runs are being handed out. */
interface Taker {
  readonly demand: Demand
  credit: number
}

/**
 * Leases ready runs, oldest first within a function. Of several workers with room the one with the code that was
 * registered last is preferred, then the one with more room.
 */
export function* claimRuns(tx: Transaction, demands: ReadonlyArray<Demand>): Program<ReadonlyArray<Claim>> {
  const claims: Array<Claim> = []
  const takers = demands.map((demand): Taker => ({ demand, credit: demand.credit }))
  // a copy: functions leave the set and come back to it on the way
  for (const key of Array.from(tx.hot)) {
    const fn = tx.registry.byKey(key)
    if (fn === undefined) continue
    const able = takers.filter(
      ({ credit, demand }) =>
        credit > 0 &&
        demand.environment === fn.environment &&
        demand.functions.has(fn.registration.id) &&
        acceptsLabels(fn.registration, demand.labels)
    )
    if (able.length === 0) continue
    tx.markCold(key)
    // to the end of the line: the next claim starts with another function, so that a busy one starves nobody
    if (!(yield* claimFunction(tx, fn, able, claims))) tx.hot.add(key)
    if (takers.every((taker) => taker.credit === 0)) break
  }
  return claims
}

/** Only what a job needs: every column of a row costs time. */
const CLAIM_COLUMNS = `r.key, r.id, r.environment, r.event, r.status, r.input, r.attempt, r.generation, r.actor, r.parent, r.linger_ms,
  r.created_at, r.started_at, r.losses, r.loss_seq, e.id AS e_id, e.name AS e_name, e.version AS e_version, e.data AS e_data,
  e.metadata AS e_metadata, e.source AS e_source, e.idempotency_key AS e_key, e.timestamp AS e_timestamp,
  e.entity_id, e.entity_type, e.entity_version`
const FROM_RUNS = "FROM runs r LEFT JOIN events e ON e.position = r.event"

/** Hands out runs of one function; says whether none is left that could be claimed without being made ready again. */
function* claimFunction(
  tx: Transaction,
  fn: RegisteredFunction,
  takers: ReadonlyArray<Taker>,
  claims: Array<Claim>
): Program<boolean> {
  const { concurrency, actorKey } = fn.registration
  // the usual answer, for a fraction of what the question in full costs
  if (yield* noneReady(fn)) return true
  const none =
    concurrency === undefined
      ? (yield* claimWhere(tx, fn, takers, claims, "", [])) === "all"
      : yield* claimLimited(tx, fn, takers, claims, concurrency.limit)
  if (actorKey === undefined) return none
  // what is ready may wait for the room of its actor's worker
  return yield* noneReady(fn)
}

const NONE_READY = statement(
  "Leases.noneReady",
  `SELECT 1 FROM runs WHERE function = ? AND ready_at IS NOT NULL @sound(run, key) LIMIT 1`
)

function* noneReady(fn: RegisteredFunction): Program<boolean> {
  return (yield* get(NONE_READY, fn.key)) === undefined
}

/** The keys of runs that are ready. */
const READY_KEYS = "SELECT key FROM runs WHERE function = ? AND ready_at IS NOT NULL ORDER BY ready_at"

/** What was handed out of the ready runs: all, not all, or not those that are tried apart from others which are out. */
type Claimed = "all" | "not all" | "some are held back"

/** Hands out ready runs that satisfy `condition`, at most `limit` of them. */
function* claimWhere(
  tx: Transaction,
  fn: RegisteredFunction,
  takers: ReadonlyArray<Taker>,
  claims: Array<Claim>,
  condition: string,
  values: ReadonlyArray<Value>,
  limit = Number.POSITIVE_INFINITY
): Program<Claimed> {
  const atMost = claims.length + limit
  let areApart = false
  while (true) {
    const wanted = Math.min(creditOf(takers), atMost - claims.length)
    if (wanted === 0) return areApart ? "some are held back" : "not all"
    const actors = fn.registration.actorKey === undefined ? undefined : withRoom(takers)
    const rows = yield* among(
      tx,
      "run",
      [variant("Leases.claimWhere", READY_KEYS), fn.key],
      variant(
        "Leases.claimWhere",
        `SELECT ${CLAIM_COLUMNS} ${FROM_RUNS} WHERE r.function = ? AND r.ready_at IS NOT NULL ${condition} @sound(run, r.key) ${actors === undefined ? "" : ACTOR_HAS_ROOM} ${areApart ? NO_SUSPECTS : ""} ORDER BY r.ready_at LIMIT ?`
      ),
      fn.key,
      ...values,
      ...(actors === undefined ? [] : [actors]),
      wanted
    )
    const before = claims.length
    let heldBack = false
    for (const row of rows) {
      const isOut = yield* apart(tx, "run", Number(row.key), claimRow(tx, fn, row, takers, claims))
      heldBack = !isOut || heldBack
    }
    const claimed = claims.length - before
    // others may stand behind suspects that are tried apart from those that are out
    if (heldBack && !areApart) {
      areApart = true
      continue
    }
    // rows of one actor may have been bound to a worker that had no room for all of them: others come after these
    if (actors !== undefined && rows.length === wanted && claimed > 0) continue
    if (areApart) return "some are held back"
    return rows.length < wanted && claimed === rows.length ? "all" : "not all"
  }
}

/** As {@link suspicion} has it. */
const NO_SUSPECTS = `AND (r.losses < ${SUSPECT_FROM}
  OR EXISTS (SELECT 1 FROM steps s WHERE s.run = r.key AND s.seq > r.loss_seq))`

/** Runs whose actor is bound to a worker without room are left out: they would stand in the way of others. */
const ACTOR_HAS_ROOM = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker NOT IN (SELECT value FROM json_each(?))))`

const withRoom = (takers: ReadonlyArray<Taker>): string =>
  JSON.stringify(takers.filter(({ credit }) => credit > 0).map(({ demand }) => demand.workerId))

const creditOf = (takers: ReadonlyArray<Taker>): number =>
  takers.reduce((sum, taker) => sum + taker.credit, 0)

const CLAIM_LIMITED = statement(
  "Leases.claimLimited",
  "SELECT concurrency_key FROM runs WHERE function = ? AND ready_at IS NOT NULL AND concurrency_key IS NOT NULL ORDER BY concurrency_key LIMIT 1"
)

const CLAIM_LIMITED_2 = statement(
  "Leases.claimLimited.2",
  "SELECT concurrency_key FROM runs WHERE function = ? AND ready_at IS NOT NULL AND concurrency_key > ? ORDER BY concurrency_key LIMIT 1"
)

const CLAIM_LIMITED_3 = statement(
  "Leases.claimLimited.3",
  `SELECT count(*) AS held FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL @sound(run, key)`
)

/** Under a limit every key has its own room: goes from key to key by the index, and takes what there is room for. */
function* claimLimited(
  tx: Transaction,
  fn: RegisteredFunction,
  takers: ReadonlyArray<Taker>,
  claims: Array<Claim>,
  limit: number
): Program<boolean> {
  let after: string | undefined
  let heldBack = false
  while (takers.some((taker) => taker.credit > 0)) {
    const next =
      after === undefined ? yield* get(CLAIM_LIMITED, fn.key) : yield* get(CLAIM_LIMITED_2, fn.key, after)
    // runs from before the function had a limit have no key, and none applies to them
    if (next === undefined) {
      const rest = yield* claimWhere(tx, fn, takers, claims, "AND r.concurrency_key IS NULL", [])
      return rest === "all" && !heldBack
    }
    after = String(next.concurrency_key)
    const held = yield* get(CLAIM_LIMITED_3, fn.key, after)
    const room = limit - Number(held?.held)
    if (room <= 0) continue
    const claimed = yield* claimWhere(tx, fn, takers, claims, "AND r.concurrency_key = ?", [after], room)
    // the end of a lease of its own key is not what they wait for
    if (claimed === "some are held back") heldBack = true
  }
  return false
}

const CLAIM = `UPDATE runs SET ${moves.claimed.set}, lease = ?, worker = ?, lease_until = ?, lease_ms = ?, ready_at = NULL,
     started_at = coalesce(started_at, ?), updated_at = ?
   WHERE key = ? AND ${moves.claimed.where}`

/** Hands a run out if a worker may have it; says `false` of a suspect that none may have now. */
function* claimRow(
  tx: Transaction,
  fn: RegisteredFunction,
  row: Row,
  takers: ReadonlyArray<Taker>,
  claims: Array<Claim>
): Program<boolean> {
  const losses = yield* suspicion(row)
  const able = losses === 0 ? takers : takers.filter(({ demand }) => mayTry(tx, demand, losses))
  const taker = yield* chooseTaker(fn, row, able)
  if (taker === undefined) return losses === 0
  const key = Number(row.key)
  const journal = row.started_at === null ? [] : yield* readJournal(key)
  const excess =
    journal.length > Limits.stepsPerRun
      ? new LimitExceededError(`Run ${row.id}`, journal.length, Limits.stepsPerRun, "steps")
      : historyExcess(row, journal)
  if (excess !== undefined) {
    yield* endRun(
      tx,
      {
        key,
        id: String(row.id),
        environment: Number(row.environment),
        function: fn.key,
        parent: row.parent === null ? null : Number(row.parent)
      },
      { _tag: "Failed", error: serializeError(excess) },
      "outgrown"
    )
    return true
  }

  const { demand } = taker
  const now = tx.now()
  const jobId = tx.ids.job()
  const changed = yield* affected(
    variant("Leases.claimRow", CLAIM),
    jobId,
    demand.workerId,
    demand.leaseMs === undefined ? null : now + demand.leaseMs,
    demand.leaseMs ?? null,
    now,
    now,
    key
  )
  yield* mustMove(key, "claimed", changed)
  if (demand.leaseMs !== undefined) tx.markDue(now + demand.leaseMs)
  if (tx.observed && row.started_at === null) {
    tx.changes.activity.push({
      _tag: "RunTaken",
      runId: String(row.id),
      functionId: fn.registration.id,
      environment: fn.environment,
      at: now
    })
  }
  if (losses > 0) tx.markDue(tx.suspects.hold(key, demand.workerId, losses, now))
  taker.credit--
  const job: Job = {
    jobId,
    runId: String(row.id),
    functionId: fn.registration.id,
    environment: fn.environment,
    attempt: Number(row.attempt),
    generation: Number(row.generation),
    event: jobEvent(row),
    journal,
    open: row.started_at === null ? [] : yield* readOpenSteps(key),
    lingerMs: Number(row.linger_ms),
    createdAt: Number(row.created_at),
    transactions: true,
    ...(statusIn(row) === "compensating"
      ? {
          compensating: yield* readRollback(key)
        }
      : {})
  }
  if (job.compensating === undefined) {
    tx.rememberLease(jobId, {
      key,
      id: job.runId,
      environment: Number(row.environment),
      function: fn.key,
      status: "running",
      event: Number(row.event),
      parent: row.parent === null ? null : Number(row.parent),
      mayHaveWaits: row.started_at !== null
    })
  }
  claims.push({ workerId: demand.workerId, job })
  return true
}

const SUSPICION = statement("Leases.suspicion", "UPDATE runs SET losses = 0 WHERE key = ?")

/** How often a suspect was lost; 0 for a run that is none. */
function* suspicion(row: Row): Program<number> {
  const losses = Number(row.losses)
  if (losses < SUSPECT_FROM) return 0
  // while it was in no turn, a wait may have brought it further
  if ((yield* lastSeq(Number(row.key))) <= Number(row.loss_seq)) return losses
  yield* write(SUSPICION, row.key!)
  return 0
}

const mayTry = (tx: Transaction, { capacity, credit, workerId }: Demand, losses: number): boolean =>
  tx.suspects.hasRoom(workerId, capacity ?? credit, losses, tx.now())

const LAST_SEQ = statement("Leases.lastSeq", "SELECT max(seq) AS seq FROM steps WHERE run = ?")

function* lastSeq(run: number): Program<number> {
  return Number((yield* get(LAST_SEQ, run))?.seq ?? 0)
}

const READ_ROLLBACK = statement("Leases.readRollback", "SELECT error, compensations FROM runs WHERE key = ?")

function* readRollback(run: number): Program<NonNullable<Job["compensating"]>> {
  const row = yield* get(READ_ROLLBACK, run)
  return { error: parseStored(String(row?.error)), compensations: parseStored(String(row?.compensations)) }
}

const CHOOSE_TAKER = statement(
  "Leases.chooseTaker",
  "SELECT worker FROM actors WHERE function = ? AND actor = ?"
)

const CHOOSE_TAKER_2 = statement(
  "Leases.chooseTaker.2",
  "INSERT INTO actors (function, actor, worker) VALUES (?, ?, ?)"
)

/** The worker for a run: the one of its actor while that lives, else the preferred one with room. */
function* chooseTaker(
  fn: RegisteredFunction,
  row: Row,
  takers: ReadonlyArray<Taker>
): Program<Taker | undefined> {
  if (row.actor === null) return preferred(fn, takers)
  const bound = yield* get(CHOOSE_TAKER, fn.key, row.actor!)
  if (bound !== undefined) {
    return takers.find(({ credit, demand }) => credit > 0 && demand.workerId === bound.worker)
  }
  const taker = preferred(fn, takers)
  if (taker !== undefined) {
    yield* write(CHOOSE_TAKER_2, fn.key, row.actor!, taker.demand.workerId)
  }
  return taker
}

const preferred = (fn: RegisteredFunction, takers: ReadonlyArray<Taker>): Taker | undefined => {
  let best: Taker | undefined
  let bestMatches = false
  for (const taker of takers) {
    if (taker.credit <= 0) continue
    const matches = taker.demand.functions.get(fn.registration.id) === fn.registration.codeHash
    if (
      best === undefined ||
      (matches && !bestMatches) ||
      (matches === bestMatches && taker.credit > best.credit)
    ) {
      best = taker
      bestMatches = matches
    }
  }
  return best
}

/** Throws a `StoreError` when the event is missing: handlers get no event that never was. */
export const jobEvent = (row: Row): JobEvent => {
  checkEvent(row)
  return row.input === null
    ? {
        id: String(row.e_id),
        name: String(row.e_name),
        version: Number(row.e_version),
        data: String(row.e_data),
        timestamp: Number(row.e_timestamp),
        ...(row.e_metadata === null ? {} : { metadata: String(row.e_metadata) }),
        ...(row.e_source === null ? {} : { source: String(row.e_source) }),
        ...(row.e_key === null ? {} : { idempotencyKey: String(row.e_key) }),
        ...entityOfRow(row)
      }
    : {
        id: invocationEventId(String(row.id)),
        name: "ironflow.invoke",
        version: 1,
        data: String(row.input),
        timestamp: Number(row.created_at),
        source: "invoke"
      }
}

const READ_JOURNAL = statement("Leases.readJournal", "SELECT * FROM steps WHERE run = ? ORDER BY seq")

export function* readJournal(run: number): Program<ReadonlyArray<JournalEntry>> {
  return (yield* all(READ_JOURNAL, run)).map((row) => ({
    stepKey: String(row.step_key),
    name: String(row.name),
    ...readKind(row.kind),
    outcome: readOutcome(row),
    attempt: Number(row.attempt)
  }))
}

const historyExcess = (row: Row, journal: ReadonlyArray<JournalEntry>): LimitExceededError | undefined => {
  let bytes = 0
  for (const { outcome } of journal) {
    if (outcome._tag === "Success") bytes += outcome.value?.length ?? 0
  }
  return bytes > Limits.historyBytes
    ? new LimitExceededError(`History of run ${row.id}`, bytes, Limits.historyBytes, "bytes")
    : undefined
}

const READ_OPEN_STEPS = statement(
  "Leases.readOpenSteps",
  `SELECT step_key, name, step_kind, failures, fired FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}' ORDER BY created_at`
)

export function* readOpenSteps(run: number): Program<ReadonlyArray<OpenStep>> {
  return (yield* all(READ_OPEN_STEPS, run)).map((row) => ({
    stepKey: String(row.step_key),
    name: String(row.name),
    // written by this store from a `StepKind`
    kind: String(row.step_kind) as StepKind,
    failures: Number(row.failures),
    pending: row.fired === null
  }))
}

/**
 * Returns the jobs whose lease is gone, and those of runs of another environment than `environment`, if that is given. With a
 * `holder`, the leases on which nothing moves any more are left to run out: their runs go to others then.
 */
export function* extendLeases(
  tx: Transaction,
  jobIds: ReadonlyArray<string>,
  leaseMs: number,
  holder?: Holder,
  environment?: string
): Program<ReadonlyArray<string>> {
  const until = tx.now() + leaseMs
  const gone: Array<string> = []
  const within = environment === undefined ? undefined : tx.findEnvironment(environment)
  for (const jobId of jobIds) {
    try {
      if (environment !== undefined && !(yield* isWithin(tx, jobId, within))) gone.push(jobId)
      else if (yield* isGone(tx, jobId, until, leaseMs, holder)) gone.push(jobId)
    } catch (error) {
      // it costs the others their leases otherwise
      tx.blame({ error, kind: "run", keys: { statement: OF_JOB, values: [jobId] }, isCertain: true })
      throw error
    }
  }
  return gone
}

const OF_JOB = statement("Leases.ofJob", "SELECT key FROM runs WHERE lease = ? AND lease_until IS NOT NULL")

const EXTEND = statement(
  "Leases.extend",
  "UPDATE runs SET lease_until = ?, lease_ms = ? WHERE lease = ? AND lease_until IS NOT NULL @sound(run, key)"
)

const IS_LEASED = statement(
  "Leases.isLeased",
  "SELECT 1 FROM runs WHERE lease = ? AND lease IS NOT NULL @sound(run, key)",
  { scans: "the runs that are leased, which workers have room for" }
)

const ENVIRONMENT_OF_JOB = statement(
  "Leases.environmentOfJob",
  "SELECT environment FROM runs WHERE lease = ? AND lease_until IS NOT NULL @sound(run, key)"
)

const ENVIRONMENT_OF_LEASED = statement(
  "Leases.environmentOfLeased",
  "SELECT environment FROM runs WHERE lease = ? AND lease IS NOT NULL @sound(run, key)",
  { scans: "the runs that are leased, which workers have room for" }
)

/** Whether a job holds a run of the environment. */
function* isWithin(tx: Transaction, jobId: string, environment: number | undefined): Program<boolean> {
  if (environment === undefined) return false
  const row =
    (yield* get(ENVIRONMENT_OF_JOB, jobId)) ?? (yield* amongLeased(tx, ENVIRONMENT_OF_LEASED, jobId))
  return row?.environment === environment
}

/** Extends a lease, unless nothing moves on it; says whether it is gone. */
function* isGone(
  tx: Transaction,
  jobId: string,
  until: number,
  leaseMs: number,
  holder: Holder | undefined
): Program<boolean> {
  // nobody names a revoked lease but by mistake
  if (isRevoked({ lease: jobId })) return true
  if (holder !== undefined && (yield* isStuck(tx, jobId, holder))) return false
  if ((yield* affected(EXTEND, until, leaseMs, jobId)) > 0) return false
  // one that cannot run out is not gone
  return (yield* amongLeased(tx, IS_LEASED, jobId)) === undefined
}

const AMONG_LEASED = statement("Leases.amongLeased", "SELECT key FROM runs WHERE lease IS NOT NULL", {
  scans: "the runs that are leased, which workers have room for"
})

/** The row of a job that may be held by a worker in the process: those leases have no index, and all that are held are read. */
function* amongLeased(tx: Transaction, one: Statement, jobId: string): Program<Row | undefined> {
  return (yield* among(tx, "run", [AMONG_LEASED], one, jobId))[0]
}

const IS_STUCK = statement(
  "Leases.isStuck",
  `SELECT function, status, worker, lease, lease_until, updated_at FROM runs WHERE lease = ? AND lease_until IS NOT NULL @sound(run, key)`
)

function* isStuck(tx: Transaction, jobId: string, holder: Holder): Program<boolean> {
  const row = yield* get(IS_STUCK, jobId)
  return row !== undefined && whyStuck(readLease(tx, row), () => holder, tx.now()) !== undefined
}

const END_REVOKED = statement(
  "Leases.endRevoked",
  `SELECT key FROM runs WHERE lease = ? AND lease_until IS NOT NULL @sound(run, key)`
)

/** The workers of these jobs are done with them: the runs that they were taken from may be handed out. */
export function* endRevoked(tx: Transaction, jobIds: ReadonlyArray<string>): Program<void> {
  for (const jobId of jobIds) {
    const row = yield* get(END_REVOKED, revoked(jobId))
    if (row !== undefined) yield* apart(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
  }
}

const ADOPT = statement("Leases.adopt", "UPDATE runs SET lease_until = ?, lease_ms = ? WHERE key = ?")

const ADOPT_2 = statement(
  "Leases.adopt.2",
  `SELECT step_key, kind, failures, failed, value FROM waits WHERE run = ? AND fired IS NOT NULL ORDER BY fired`
)

/**
 * Lets a worker go on with the turns `jobIds` that it still holds, and takes its other runs back without counting a loss.
 * It knows of no other jobs than those which were made after `since`, its first registration: older ones are left alone, because
 * another worker of this id may be at them. Without `since` it is new.
 * What has fired for the turns that it keeps, and which of them are to be paused, is told again: the notices of an engine
 * that is gone went with it. Actors of other functions than `functionIds` are not bound to it any more.
 */
export function* adoptLeases(
  tx: Transaction,
  workerId: string,
  jobIds: ReadonlyArray<string>,
  leaseMs: number,
  functionIds: ReadonlySet<string>,
  since: string = tx.ids.job()
): Program<Adoption> {
  const lost = new Set(jobIds)
  const left: Array<string> = []
  const notices: Array<Notice> = []
  const until = tx.now() + leaseMs
  function* adopt(row: Row): Program<void> {
    const jobId = jobOf(row)
    const key = Number(row.key)
    const isNamed = !isRevoked(row) && lost.delete(jobId)
    if (!isNamed) {
      if (jobId < since) left.push(jobId)
      else if (!isRevoked(row)) yield* releaseRun(tx, key)
      return
    }
    const losses = yield* suspicion(row)
    if (losses > 0) tx.markDue(tx.suspects.hold(key, workerId, losses, tx.now()))
    yield* write(ADOPT, until, leaseMs, key)
    if (row.pause !== null) notices.push({ _tag: "Paused", jobId })
    for (const wait of yield* all(ADOPT_2, key)) {
      notices.push({
        _tag: "Fired",
        jobId,
        stepKey: String(wait.step_key),
        ...(Number(wait.kind) === WaitKind.retry
          ? { failures: Number(wait.failures) }
          : { outcome: readOutcome(wait) })
      })
    }
  }
  for (const row of yield* heldBy(tx, workerId)) yield* apart(tx, "run", Number(row.key), adopt(row))
  if (lost.size < jobIds.length) tx.markDue(until)
  yield* freeActors(tx, workerId, functionIds)
  return { lost: [...lost], left, notices, since }
}

const HELD_BY = statement("Leases.heldBy", "SELECT key FROM runs WHERE worker = ? AND lease IS NOT NULL")

const HELD_BY_2 = statement(
  "Leases.heldBy.2",
  `SELECT key, function, lease, worker, pause, losses, loss_seq FROM runs WHERE worker = ? AND lease IS NOT NULL @sound(run, key)`
)

/** The runs that a worker holds. */
function* heldBy(tx: Transaction, workerId: string): Program<ReadonlyArray<Row>> {
  return yield* among(tx, "run", [HELD_BY, workerId], HELD_BY_2, workerId)
}

/** Takes every run back from a worker but those of the jobs `left`; `lost` says that the worker died on them. */
export function* releaseWorker(
  tx: Transaction,
  workerId: string,
  lost: boolean,
  left: ReadonlySet<string> = new Set()
): Program<number> {
  const held = (yield* heldBy(tx, workerId)).filter((row) => !left.has(jobOf(row)))
  for (const row of held) {
    if (isRevoked(row)) yield* apart(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
  }
  const rows = held.filter((row) => !isRevoked(row))
  if (lost) yield* loseRuns(tx, rows, () => `worker ${workerId} is gone`)
  else for (const row of rows) yield* apart(tx, "run", Number(row.key), releaseRun(tx, Number(row.key)))
  yield* freeActors(tx, workerId)
  return rows.length
}

const FREE_ACTORS = statement("Leases.freeActors", "SELECT DISTINCT function FROM actors WHERE worker = ?")

const FREE_ACTORS_2 = statement("Leases.freeActors.2", "DELETE FROM actors WHERE worker = ? AND function = ?")

/** Actors of a worker that does not live any more, or that has other functions than before, may go to others. */
function* freeActors(tx: Transaction, workerId: string, functionIds?: ReadonlySet<string>): Program<void> {
  for (const row of yield* all(FREE_ACTORS, workerId)) {
    const key = Number(row.function)
    if (functionIds?.has(functionIdOf(tx, key)) === true) continue
    yield* write(FREE_ACTORS_2, workerId, key)
    tx.markReady(key)
  }
}

const RECOVER_LEASES = statement("Leases.recoverLeases", "SELECT key FROM runs WHERE lease IS NOT NULL", {
  scans: "the runs that are leased, once at the start"
})

const RECOVER_LEASES_2 = statement(
  "Leases.recoverLeases.2",
  `SELECT key, function, worker, losses FROM runs WHERE lease IS NOT NULL AND lease_until IS NULL @sound(run, key)`,
  { scans: "the runs that are leased, once at the start" }
)

const RECOVER_LEASES_3 = statement("Leases.recoverLeases.3", "SELECT DISTINCT worker FROM actors", {
  scans: "actors that are bound, once at the start"
})

const RECOVER_LEASES_4 = statement(
  "Leases.recoverLeases.4",
  "SELECT key FROM runs WHERE worker = ? AND lease IS NOT NULL"
)

const RECOVER_LEASES_5 = statement(
  "Leases.recoverLeases.5",
  `SELECT 1 FROM runs WHERE worker = ? AND lease IS NOT NULL @sound(run, key) AND lease_until IS NOT NULL LIMIT 1`
)

const RECOVER_LEASES_6 = statement("Leases.recoverLeases.6", "DELETE FROM actors WHERE worker = ?")

/** Takes back the runs whose worker lived in the process that had the database open before. */
export function* recoverLeases(tx: Transaction): Program<number> {
  const rows = yield* among(tx, "run", [RECOVER_LEASES], RECOVER_LEASES_2)
  yield* loseRuns(tx, rows, () => "the process that ran it ended")
  for (const row of yield* all(RECOVER_LEASES_3)) {
    const [lives] = yield* among(tx, "run", [RECOVER_LEASES_4, row.worker!], RECOVER_LEASES_5, row.worker!)
    if (lives === undefined) yield* write(RECOVER_LEASES_6, row.worker!)
  }
  return rows.length
}

const EXPIRE_LEASES = statement(
  "Leases.expireLeases",
  "SELECT key FROM runs WHERE lease_until <= ? ORDER BY lease_until"
)

const EXPIRE_LEASES_2 = statement(
  "Leases.expireLeases.2",
  `SELECT key, function, lease, worker, losses FROM runs WHERE lease_until <= ? @sound(run, key) ORDER BY lease_until LIMIT ?`
)

/** Takes back the runs whose lease has run out, at most `limit` of them. */
export function* expireLeases(tx: Transaction, limit: number): Program<number> {
  const now = tx.now()
  const due = yield* among(tx, "run", [EXPIRE_LEASES, now], EXPIRE_LEASES_2, now, limit)
  for (const row of due) {
    if (isRevoked(row)) yield* apart(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
  }
  const rows = due.filter((row) => !isRevoked(row))
  for (const row of rows) {
    tx.notify(String(row.worker), {
      _tag: "LeaseLost",
      jobId: String(row.lease),
      reason: "the lease ran out"
    })
  }
  yield* loseRuns(tx, rows, ({ worker }) => `worker ${worker} let its lease run out`)
  for (const workerId of new Set(rows.map((row) => String(row.worker)))) yield* freeActors(tx, workerId)
  return due.length
}

const LEASED = statement(
  "Leases.leased",
  "SELECT key, function, worker, losses FROM runs WHERE lease = ? AND lease IS NOT NULL @sound(run, key)",
  { scans: "the runs that are leased, which workers have room for" }
)

/** Takes a run back whose turn was lost while its worker lives; says whether it held the lease. `why` continues "last: ". */
export function* loseLease(tx: Transaction, jobId: string, why: string): Program<boolean> {
  const row = yield* amongLeased(tx, LEASED, jobId)
  if (row === undefined) return false
  yield* loseRuns(tx, [row], () => why)
  return true
}

/** The wait before a run that lost its worker is dispatched again, milliseconds: none the first time. */
const lossDelayMs = (losses: number): number => (losses <= 1 ? 0 : Math.min(1000 * 2 ** (losses - 2), 60_000))

function* releaseRun(tx: Transaction, run: number): Program<void> {
  yield* endLease(tx, run, "released")
  yield* makeReady(tx, run)
}

/** Takes runs back that were lost at once. Of those of one worker it cannot be seen which is to blame. */
function* loseRuns(tx: Transaction, rows: ReadonlyArray<Row>, why: (row: Row) => string): Program<void> {
  const now = tx.now()
  const tried = rows.filter(
    ({ key, losses }) => Number(losses) >= SUSPECT_FROM && !tx.suspects.isPastTrial(Number(key), now)
  )
  for (const row of rows) {
    const isWith = (other: Row): boolean => other !== row && other.worker === row.worker
    const company = { blamed: !tried.some(isWith), spread: rows.some(isWith) }
    yield* apart(
      tx,
      "run",
      Number(row.key),
      loseRun(tx, Number(row.key), Number(row.function), why(row), company)
    )
  }
}

const LOSE_RUN = statement("Leases.loseRun", "SELECT status, losses, loss_seq FROM runs WHERE key = ?")

const LOSE_RUN_2 = statement("Leases.loseRun.2", "UPDATE runs SET losses = ?, loss_seq = ? WHERE key = ?")

/** `blamed`: nothing else may have been the reason. `spread`: others were lost with it, and need not come back with it. */
function* loseRun(
  tx: Transaction,
  run: number,
  fn: number,
  why: string,
  { blamed, spread }: { readonly blamed: boolean; readonly spread: boolean }
): Program<void> {
  yield* endLease(tx, run, "leaseLost")
  const row = yield* get(LOSE_RUN, run)
  const last = yield* lastSeq(run)
  const losses = last > Number(row?.loss_seq) ? 1 : Number(row?.losses) + 1
  yield* write(LOSE_RUN_2, losses, last, run)
  // as somebody had asked for
  if (statusIn(row) === "paused") return
  if (losses >= LOSSES_UNTIL_PAUSE && blamed) {
    return yield* pauseRow(tx, run, {
      code: "LOST_REPEATEDLY",
      message:
        `Its worker was lost ${losses} times without a step being completed in between (last: ${why}). ` +
        `Look for a crash in the step that comes next, then resume the run.`,
      details: { losses, last: why }
    })
  }
  const delay = Math.round(lossDelayMs(losses) * (spread ? 1 + tx.random() / 2 : 1))
  if (delay === 0) return yield* makeReady(tx, run)
  yield* delayRun(tx, run, tx.now() + delay)
  tx.markReady(fn)
}

const MARK_LATE = statement(
  "Leases.markLate",
  "SELECT key, environment, linger_ms FROM runs WHERE id = ? AND ended_at IS NULL"
)

const MARK_LATE_2 = statement("Leases.markLate.2", "UPDATE runs SET linger_ms = ? WHERE key = ?")

/** Dispatches a run again whose turn ended while its handler was still at work, with a longer linger. */
export function* markLate(
  tx: Transaction,
  runId: string,
  lingerMs: number,
  environment?: string
): Program<void> {
  const row = yield* get(MARK_LATE, runId)
  if (row === undefined || !isOf(tx, Number(row.environment), environment)) return
  const longer = Math.min(5000, Math.max(50, lingerMs * 2, Number(row.linger_ms)))
  yield* write(MARK_LATE_2, longer, row.key!)
  yield* makeReady(tx, Number(row.key))
}
