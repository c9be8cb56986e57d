/** Dispatches runs: decides which worker gets which ready run, gives the worker the lease, and builds the job for it. */
import type { Demand, Claim } from "./TurnRecords.ts"
import {
  inEnvironment,
  type Program,
  statement,
  get,
  type Value,
  allIsolatingDamage,
  variant,
  isolateRow,
  affectedAssumingOne
} from "../Store/Program.ts"
import type { Transaction, Row } from "../Store/Transaction.ts"
import { readyOf, clearReady } from "../Functions/ReadyFunctions.ts"
import { NO_PIN } from "../Functions/Pins.ts"
import {
  actorCondition,
  actorParameter,
  chooseCandidate,
  type Lane,
  laneCondition,
  lanesOf,
  preferredCandidate,
  type Candidate
} from "./Lanes.ts"
import { registryOf, acceptsLabels, type RegisteredFunction } from "../Functions/Registry.ts"
import { SUSPECT_FROM, refreshLosses, suspectsOf } from "../Runs/Suspects.ts"
import { insertLeasedRun, type NewRun, unwrittenRuns, writeNewRuns } from "../Runs/NewRuns.ts"
import { moves, mustMove, statusIn } from "../Runs/StatusRows.ts"
import { readJournal, readOpenSteps } from "../Runs/Journal.ts"
import * as Limits from "../../Limits.ts"
import { LimitExceededError, serializeError } from "../../Errors.ts"
import { endRun } from "../Runs/EndRun.ts"
import type { Job, JournalEntry } from "../../Protocol/Worker.ts"
import { EVENT_DATA, jobEvent } from "../Runs/RunEvent.ts"
import { rememberLease } from "../Runs/LeaseCache.ts"
import { countRunEvent } from "../Runs/RunStats.ts"
import { MAX_KEPT_CHARS } from "../Store/EndedRunRecord.ts"
import { parseStored } from "../Store/StoredJson.ts"

/**
 * Leases ready runs of an environment to workers with room, oldest first within a function. All `demands` are of this
 * environment. Prefers workers with the code that was registered last, and among such workers the one with the most room.
 */
export const claimRuns = inEnvironment(
  "claimRuns",
  function* (
    tx: Transaction,
    environment: string,
    demands: ReadonlyArray<Demand>
  ): Program<ReadonlyArray<Claim>> {
    const claims: Array<Claim> = []
    const candidates = demands.map((demand): Candidate => ({ demand, room: demand.room }))
    // iterates over a copy, because the loop removes functions from the set and adds them again
    for (const key of Array.from(readyOf(tx).mayBeReady)) {
      const fn = registryOf(tx).byKey(key)
      if (fn?.environment !== environment) continue
      const connected = candidates.filter(
        ({ demand }) =>
          demand.functions.has(fn.registration.id) && acceptsLabels(fn.registration, demand.labels)
      )
      const candidatesWithRoom = connected.filter(({ room }) => room > 0)
      if (candidatesWithRoom.length === 0) continue
      clearReady(tx, key)
      // a function that still has ready runs goes to the end of the set, so that a busy function does not starve the others
      if (!(yield* claimFunction(tx, fn, candidatesWithRoom, connected, claims)))
        readyOf(tx).mayBeReady.add(key)
      if (candidates.every((candidate) => candidate.room === 0)) break
    }
    return claims
  },
  () => "claim runs",
  { allowsHeldWrites: true }
)

/** SQL: only the columns that a job needs, because every column costs time. */
const CLAIM_COLUMNS = `r.key, r.id, r.environment, r.event, r.status, r.input, r.attempt, r.generation, r.actor, r.parent, r.linger_ms,
  r.created_at, r.started_at, r.losses, r.loss_seq, r.trace, r.forked_from, r.system_event, e.id AS e_id, e.name AS e_name, e.version AS e_version, ${EVENT_DATA} AS e_data,
  e.metadata AS e_metadata, e.source AS e_source, e.idempotency_key AS e_key, e.timestamp AS e_timestamp,
  e.entity_id, e.entity_type, e.entity_version, e.trace AS e_trace`

const FROM_RUNS = "FROM runs r LEFT JOIN events e ON e.position = r.event"

/**
 * Dispatches runs of one function. `candidates` are the workers with room; `connected` also has those without room. Returns
 * `true` when no claimable run is left: the function is then not looked at again until another of its runs becomes ready.
 */
function* claimFunction(
  tx: Transaction,
  fn: RegisteredFunction,
  candidates: ReadonlyArray<Candidate>,
  connected: ReadonlyArray<Candidate>,
  claims: Array<Claim>
): Program<boolean> {
  const { concurrency, actorKey } = fn.registration
  const runs = unwrittenRuns(tx, fn.key)
  if (runs !== undefined) return yield* claimNewRuns(tx, fn, runs, candidates, claims)
  yield* writeNewRuns(tx)
  // usually there is no ready run, and this query is much cheaper than the one that finds the runs to claim
  if (yield* hasNoReadyRun(fn)) return true
  const lanes = fn.pins === true ? lanesOf(fn, candidates, connected) : [{ candidates, connected }]
  const isNoneLeft =
    concurrency === undefined
      ? (yield* claimLanes(tx, fn, lanes, claims, "", [])) === "all"
      : yield* claimLimited(tx, fn, candidates, lanes, claims, concurrency.limit)
  if (actorKey === undefined && fn.pins !== true) return isNoneLeft
  // a ready run may wait for room at the worker of its actor, or at a worker of its version, so any ready run counts as a run
  // that is left
  return yield* hasNoReadyRun(fn)
}

/** Dispatches ready runs lane by lane. Returns `"all"` only if {@link claimMatching} returns it for every lane. */
function* claimLanes(
  tx: Transaction,
  fn: RegisteredFunction,
  lanes: ReadonlyArray<Lane>,
  claims: Array<Claim>,
  condition: string,
  values: ReadonlyArray<Value>,
  limit = Number.POSITIVE_INFINITY
): Program<ClaimResult> {
  const atMost = claims.length + limit
  let worst: ClaimResult = "all"
  for (const lane of lanes) {
    const claimed = yield* claimMatching(tx, fn, lane, claims, condition, values, atMost - claims.length)
    if (claimed !== "all" && worst !== "some are kept apart") worst = claimed
  }
  return worst
}

const FIND_READY_RUN = statement(
  "Claims.findReadyRun",
  `SELECT 1 FROM runs WHERE function = ? AND ready_at IS NOT NULL @sound(run, key) LIMIT 1`
)

const FIND_BEGUN_READY_RUN = statement(
  "Claims.findBegunReadyRun",
  `SELECT 1 FROM runs WHERE function = ? AND ready_at IS NOT NULL AND started_at IS NOT NULL @sound(run, key) LIMIT 1`
)

function* hasNoReadyRun(fn: RegisteredFunction): Program<boolean> {
  return (yield* get(fn.paused === undefined ? FIND_READY_RUN : FIND_BEGUN_READY_RUN, fn.key)) === undefined
}

/** SQL condition: of a paused function, only runs that have begun are dispatched. */
const begunOnly = (fn: RegisteredFunction): string =>
  fn.paused === undefined ? "" : "AND r.started_at IS NOT NULL"

/** Dispatches runs that were created in this transaction and have no row yet. Returns whether no such run is left. */
function* claimNewRuns(
  tx: Transaction,
  fn: RegisteredFunction,
  runs: Array<NewRun>,
  candidates: ReadonlyArray<Candidate>,
  claims: Array<Claim>
): Program<boolean> {
  let count = 0
  for (const run of runs) {
    const candidate = preferredCandidate(fn, candidates)
    if (candidate === undefined) break
    count++
    const { leaseMs, workerId } = candidate.demand
    const now = tx.now()
    const jobId = tx.ids.job()
    const key = yield* insertLeasedRun(run, {
      jobId,
      workerId,
      now,
      ...(leaseMs === undefined ? {} : { leaseMs })
    })
    const { createdAt, environment, event, id, jobEvent } = run
    noteDispatch(tx, fn, id, candidate, now, createdAt)
    rememberLease(tx, {
      jobId,
      key,
      id,
      environment,
      function: fn.key,
      status: "running",
      event,
      parent: null,
      worker: workerId,
      since: now,
      createdAt,
      mayHaveWaits: false,
      ...(jobEvent.data.length > MAX_KEPT_CHARS
        ? {}
        : {
            firstTurn: {
              eventId: jobEvent.id,
              data: jobEvent.data,
              workerId,
              startedAt: now,
              ...(jobEvent.trace === undefined ? {} : { trace: jobEvent.trace })
            }
          })
    })
    claims.push({
      workerId,
      job: {
        jobId,
        runId: id,
        functionId: fn.registration.id,
        environment: fn.environment,
        attempt: 1,
        generation: 0,
        event: jobEvent,
        journal: [],
        open: [],
        lingerMs: 0,
        createdAt,
        transactions: true
      }
    })
  }
  runs.splice(0, count)
  return runs.length === 0
}

/**
 * Notes a turn that was dispatched: when its lease expires, and that its worker has less room. For the first turn of a run, it
 * also notes how long the run has waited, and tells the observers that the run was taken. `createdAt` is when the run was created; `undefined` if this is not the first turn of the run.
 */
const noteDispatch = (
  tx: Transaction,
  fn: RegisteredFunction,
  runId: string,
  candidate: Candidate,
  now: number,
  createdAt: number | undefined
): void => {
  const { leaseMs } = candidate.demand
  if (leaseMs !== undefined) tx.markDue(now + leaseMs)
  if (createdAt !== undefined) countRunEvent(tx, "waitToStart", fn.key, now - createdAt)
  if (tx.interest.steps && createdAt !== undefined) {
    tx.changes.activity.push({
      _tag: "RunTaken",
      runId,
      functionId: fn.registration.id,
      environment: fn.environment,
      at: now
    })
  }
  candidate.room--
}

/** SQL: the keys of ready runs. */
const READY_KEYS = "SELECT key FROM runs WHERE function = ? AND ready_at IS NOT NULL ORDER BY ready_at, key"

/**
 * Which of the ready runs were claimed. `"some are kept apart"`: there are suspects (see `Suspects.ts`) that no worker may have
 * now, and other runs may be left too.
 */
type ClaimResult = "all" | "not all" | "some are kept apart"

/** Dispatches ready runs of a lane that satisfy the SQL `condition`, at most `limit` of them. */
function* claimMatching(
  tx: Transaction,
  fn: RegisteredFunction,
  lane: Lane,
  claims: Array<Claim>,
  condition: string,
  values: ReadonlyArray<Value>,
  limit: number
): Program<ClaimResult> {
  const { pin, candidates } = lane
  const atMost = claims.length + limit
  let leavesOutSuspects = false
  while (true) {
    const wanted = Math.min(roomOf(candidates), atMost - claims.length)
    if (wanted === 0) return leavesOutSuspects ? "some are kept apart" : "not all"
    const actors = actorParameter(fn, lane)
    const rows = yield* allIsolatingDamage(
      tx,
      "run",
      [variant("Claims.claimWhere", READY_KEYS), fn.key],
      variant(
        "Claims.claimWhere",
        `SELECT ${CLAIM_COLUMNS} ${FROM_RUNS} WHERE r.function = ? AND r.ready_at IS NOT NULL ${begunOnly(fn)} ${laneCondition(fn, lane)} ${condition} @sound(run, r.key) ${actors === undefined ? "" : actorCondition(lane)} ${leavesOutSuspects ? NO_SUSPECTS : ""} ORDER BY r.ready_at, r.key LIMIT ?`
      ),
      fn.key,
      ...(pin === undefined ? [] : [pin]),
      ...values,
      ...(actors === undefined ? [] : [actors]),
      wanted
    )
    const claimsBefore = claims.length
    let areSomeKeptApart = false
    for (const row of rows) {
      const isKeptApart = !(yield* isolateRow(
        tx,
        "run",
        Number(row.key),
        claimRow(tx, fn, row, lane, claims)
      ))
      areSomeKeptApart ||= isKeptApart
    }
    const claimed = claims.length - claimsBefore
    // when suspects were kept apart, other runs may come after these suspects in the order of the query: the next query finds
    // those runs
    if (areSomeKeptApart && !leavesOutSuspects) {
      leavesOutSuspects = true
      continue
    }
    // some of the found runs may belong to actors whose worker has no room left by now: the next query leaves such runs out, and
    // finds the runs that come after them
    if (actors !== undefined && rows.length === wanted && claimed > 0) continue
    if (leavesOutSuspects) return "some are kept apart"
    return rows.length < wanted && claimed === rows.length ? "all" : "not all"
  }
}

/** SQL condition: leaves out the suspects, by the same rule as {@link refreshLosses}. */
const NO_SUSPECTS = `AND (r.losses < ${SUSPECT_FROM}
  OR EXISTS (SELECT 1 FROM steps s WHERE s.run = r.key AND s.seq > r.loss_seq))`

const roomOf = (candidates: ReadonlyArray<Candidate>): number =>
  candidates.reduce((sum, candidate) => sum + candidate.room, 0)

/**
 * SQL: the concurrency key. For a paused function, this expression keeps the database from using the index of concurrency keys:
 * there is a better index, which has only the runs that have begun.
 */
const keyExpression = (fn: RegisteredFunction): string =>
  fn.paused === undefined ? "r.concurrency_key" : "(r.concurrency_key || '')"

/**
 * SQL: finds the next concurrency key among the ready runs of a function. For a paused function, only the runs that have begun
 * count.
 */
const nextKey = (fn: RegisteredFunction, condition: string) =>
  variant(
    "Claims.nextKey",
    `SELECT concurrency_key FROM runs r WHERE function = ? AND ready_at IS NOT NULL ${begunOnly(fn)} AND ${keyExpression(fn)} ${condition} ORDER BY ${keyExpression(fn)} LIMIT 1`
  )

const COUNT_LEASED_RUNS_OF_KEY = statement(
  "Claims.countLeasedRunsOfKey",
  `SELECT count(*) AS held FROM runs WHERE function = ? AND concurrency_key = ? AND lease IS NOT NULL @sound(run, key)`
)

/**
 * Dispatches runs of a function with a concurrency limit, which holds for each concurrency key. Goes from key to key by an index,
 * and dispatches as many runs of each key as the limit allows. Returns `true` when no claimable run is left.
 */
function* claimLimited(
  tx: Transaction,
  fn: RegisteredFunction,
  candidates: ReadonlyArray<Candidate>,
  lanes: ReadonlyArray<Lane>,
  claims: Array<Claim>,
  limit: number
): Program<boolean> {
  let lastKey: string | undefined
  let keptApart = false
  while (candidates.some((candidate) => candidate.room > 0)) {
    const next =
      lastKey === undefined
        ? yield* get(nextKey(fn, "IS NOT NULL"), fn.key)
        : yield* get(nextKey(fn, "> ?"), fn.key, lastKey)
    // after the last key: runs that were created before the function had its limit have no concurrency key, and the limit does
    // not apply to them
    if (next === undefined) {
      const claimedWithoutKey = yield* claimLanes(tx, fn, lanes, claims, "AND r.concurrency_key IS NULL", [])
      return claimedWithoutKey === "all" && !keptApart
    }
    lastKey = String(next.concurrency_key)
    const leasedCount = yield* get(COUNT_LEASED_RUNS_OF_KEY, fn.key, lastKey)
    const room = limit - Number(leasedCount?.held)
    if (room <= 0) continue
    const claimed = yield* claimLanes(tx, fn, lanes, claims, `AND ${keyExpression(fn)} = ?`, [lastKey], room)
    // other runs of this key become claimable only when one of its leases ends, and the function is looked at again then. Suspects
    // that are kept apart may become claimable without that, so they count as claimable runs that are left
    if (claimed === "some are kept apart") keptApart = true
  }
  return false
}

const claim = (
  furtherAssignments: string
): string => `UPDATE runs SET ${moves.claimed.set}, lease = ?, worker = ?, lease_until = ?, lease_ms = ?, ready_at = NULL,
     started_at = coalesce(started_at, ?), updated_at = ?${furtherAssignments}
   WHERE key = ? AND ${moves.claimed.where}`
const CLAIM = claim("")
const CLAIM_AND_PIN = claim(", pin = ?")

/**
 * Dispatches a run to a worker that may have it, if there is such a worker. A run whose history exceeds a limit fails instead.
 * Returns `false` for a suspect that no worker may have now.
 */
function* claimRow(
  tx: Transaction,
  fn: RegisteredFunction,
  row: Row,
  lane: Lane,
  claims: Array<Claim>
): Program<boolean> {
  const { candidates } = lane
  const losses = yield* refreshLosses(row)
  const allowedCandidates =
    losses === 0 ? candidates : candidates.filter(({ demand }) => mayHoldSuspect(tx, demand, losses))
  const candidate = yield* chooseCandidate(fn, row, allowedCandidates, lane)
  if (candidate === undefined) return losses === 0
  const key = Number(row.key)
  const isFresh = row.started_at === null && row.forked_from === null
  const journal = isFresh ? [] : yield* readJournal(tx, key)
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

  const { demand } = candidate
  const now = tx.now()
  const jobId = tx.ids.job()
  // a run is pinned to the version with which it begins
  const pins = lane.pin === NO_PIN && fn.registration.versioning === "pin"
  const changed = yield* affectedAssumingOne(
    variant("Claims.claimRow", pins ? CLAIM_AND_PIN : CLAIM),
    jobId,
    demand.workerId,
    demand.leaseMs === undefined ? null : now + demand.leaseMs,
    demand.leaseMs ?? null,
    now,
    now,
    ...(pins ? [demand.functions.get(fn.registration.id) ?? NO_PIN] : []),
    key
  )
  yield* mustMove(key, "claimed", changed)
  noteDispatch(
    tx,
    fn,
    String(row.id),
    candidate,
    now,
    row.started_at === null ? Number(row.created_at) : undefined
  )
  if (losses > 0) tx.markDue(suspectsOf(tx).hold(key, demand.workerId, losses, now))
  const job: Job = {
    jobId,
    runId: String(row.id),
    functionId: fn.registration.id,
    environment: fn.environment,
    attempt: Number(row.attempt),
    generation: Number(row.generation),
    event: jobEvent(row),
    journal,
    open: isFresh ? [] : yield* readOpenSteps(key),
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
    rememberLease(tx, {
      jobId,
      key,
      id: job.runId,
      environment: Number(row.environment),
      function: fn.key,
      status: "running",
      event: Number(row.event),
      parent: row.parent === null ? null : Number(row.parent),
      worker: demand.workerId,
      since: now,
      createdAt: job.createdAt,
      mayHaveWaits: row.started_at !== null
    })
  }
  claims.push({ workerId: demand.workerId, job })
  return true
}

const mayHoldSuspect = (tx: Transaction, { capacity, room, workerId }: Demand, losses: number): boolean =>
  suspectsOf(tx).hasRoom(workerId, capacity ?? room, losses, tx.now())

const FIND_ROLLBACK = statement("Claims.findRollback", "SELECT error, compensations FROM runs WHERE key = ?")

function* readRollback(run: number): Program<NonNullable<Job["compensating"]>> {
  const row = yield* get(FIND_ROLLBACK, run)
  return { error: parseStored(String(row?.error)), compensations: parseStored(String(row?.compensations)) }
}

const historyExcess = (row: Row, journal: ReadonlyArray<JournalEntry>): LimitExceededError | undefined => {
  const results = journal.flatMap(({ outcome }) => (outcome._tag === "Success" ? (outcome.value ?? []) : []))
  const characters = results.reduce((sum, { length }) => sum + length, 0)
  // a character has at most 3 bytes, so the bytes of most histories need not be counted
  if (3 * characters <= Limits.historyBytes) return undefined
  const bytes = results.reduce((sum, result) => sum + Buffer.byteLength(result), 0)
  return bytes > Limits.historyBytes
    ? new LimitExceededError(`History of run ${row.id}`, bytes, Limits.historyBytes, "bytes")
    : undefined
}
