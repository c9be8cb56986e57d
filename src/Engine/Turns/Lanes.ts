/**
 * Which workers may have which runs of a function. Runs of a function that pins runs go to workers of their version, and runs of
 * an actor go to the worker that is bound to the actor.
 */
import { codeVersionOf } from "../../Versioning.ts"
import { NO_PIN } from "../Functions/Pins.ts"
import type { RegisteredFunction } from "../Functions/Registry.ts"
import { get, type Program, statement, write } from "../Store/Program.ts"
import type { Row } from "../Store/Transaction.ts"
import type { Demand } from "./TurnRecords.ts"

/** A worker that may get runs in a claim. */
export interface Candidate {
  readonly demand: Demand
  /** How many more runs the worker may get. */
  room: number
}

/** Workers that may have the same runs of a function. */
export interface Lane {
  /**
   * The version to which the runs are pinned, or `NO_PIN` for runs that have not begun. Absent for a function that pins no runs.
   */
  readonly pin?: string
  /** The workers with room. */
  readonly candidates: ReadonlyArray<Candidate>
  /** The candidates, and the other connected workers of the lane: those without room, and those of other engines. */
  readonly connected: ReadonlyArray<Candidate>
}

/**
 * The lanes of a function. If the function pins runs, the runs of each version go to the workers that have it. Runs that have not
 * begun go to workers of the latest version, or to any worker when no worker of that version is connected to any engine.
 */
export const lanesOf = (
  fn: RegisteredFunction,
  candidates: ReadonlyArray<Candidate>,
  connected: ReadonlyArray<Candidate>
): ReadonlyArray<Lane> => {
  const versionOf = ({ demand }: Candidate) => demand.functions.get(fn.registration.id)
  const hasVersion = (version: string) => (candidate: Candidate) => versionOf(candidate) === version
  const hasLatest = hasVersion(codeVersionOf(fn.registration))
  const versions = new Set(candidates.map((candidate) => versionOf(candidate) ?? NO_PIN))
  versions.delete(NO_PIN)
  // what is known of the workers of other engines is kept up to date only while the function pins runs
  const { versioning } = fn.registration
  const isCurrent = ({ demand }: Candidate) => demand.isElsewhere !== true || versioning === "pin"
  const forNewRuns = connected.some((candidate) => hasLatest(candidate) && isCurrent(candidate))
    ? { candidates: candidates.filter(hasLatest), connected: connected.filter(hasLatest) }
    : { candidates, connected }
  return [
    ...[...versions].map((pin) => ({
      pin,
      candidates: candidates.filter(hasVersion(pin)),
      connected: connected.filter(hasVersion(pin))
    })),
    { pin: NO_PIN, ...forNewRuns }
  ]
}

/**
 * SQL condition: the runs of one version. The first form makes the database use the index of pins. The second form does not,
 * because another index is better then: the index of the runs of a paused function that have begun, or the index of concurrency
 * keys.
 */
export const laneCondition = (fn: RegisteredFunction, { pin }: Lane): string =>
  pin === undefined
    ? ""
    : fn.paused === undefined && fn.registration.concurrency === undefined
      ? "AND r.pin = ? AND r.pin IS NOT NULL AND r.ended_at IS NULL"
      : "AND r.pin = ?"

/**
 * SQL condition: leaves out runs whose actor is bound to a worker that is not among those with room. Such runs would block the
 * runs that come after them.
 */
const ACTOR_HAS_ROOM = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker NOT IN (SELECT value FROM json_each(?))))`

/**
 * {@link ACTOR_HAS_ROOM} for a lane of a version: leaves out runs whose actor is bound to a worker of the lane that has no room.
 * A worker of another version cannot get the run, so an actor that is bound to such a worker does not matter.
 */
const ACTOR_IS_FREE = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker IN (SELECT value FROM json_each(?))))`

const idsWithoutRoom = (connected: ReadonlyArray<Candidate>): string =>
  JSON.stringify(connected.filter(({ room }) => room <= 0).map(({ demand }) => demand.workerId))

const idsWithRoom = (candidates: ReadonlyArray<Candidate>): string =>
  JSON.stringify(candidates.filter(({ room }) => room > 0).map(({ demand }) => demand.workerId))

/** The value for the parameter of {@link actorCondition}; `undefined` for a function without actors. */
export const actorParameter = (
  fn: RegisteredFunction,
  { pin, connected, candidates }: Lane
): string | undefined => {
  if (fn.registration.actorKey === undefined) return undefined
  return pin === undefined ? idsWithRoom(candidates) : idsWithoutRoom(connected)
}

/** SQL condition: leaves out the runs whose actor is bound to a worker that has no room. */
export const actorCondition = ({ pin }: Lane): string => (pin === undefined ? ACTOR_HAS_ROOM : ACTOR_IS_FREE)

const FIND_WORKER_OF_ACTOR = statement(
  "Lanes.findWorkerOfActor",
  "SELECT worker FROM actors WHERE function = ? AND actor = ?"
)

const PUT_ACTOR = statement(
  "Lanes.putActor",
  "INSERT INTO actors (function, actor, worker) VALUES (?, ?, ?) ON CONFLICT (function, actor) DO UPDATE SET worker = excluded.worker"
)

/**
 * The worker for a run. If the run's actor is bound to a worker (for a function that pins runs: to a worker of this lane), this is
 * the bound worker, or `undefined` while the bound worker has no room. Otherwise this is the preferred worker with room, to which the actor is then bound; `undefined` if no worker has
 * room.
 */
export function* chooseCandidate(
  fn: RegisteredFunction,
  row: Row,
  candidates: ReadonlyArray<Candidate>,
  { pin, connected }: Lane
): Program<Candidate | undefined> {
  if (row.actor === null) return preferredCandidate(fn, candidates)
  const binding = yield* get(FIND_WORKER_OF_ACTOR, fn.key, row.actor!)
  // if the function pins runs and the bound worker is not in this lane, the worker has another version and cannot get the run
  if (
    binding !== undefined &&
    (pin === undefined || connected.some(({ demand }) => demand.workerId === binding.worker))
  ) {
    return candidates.find(({ room, demand }) => room > 0 && demand.workerId === binding.worker)
  }
  const candidate = preferredCandidate(fn, candidates)
  if (candidate !== undefined) {
    yield* write(PUT_ACTOR, fn.key, row.actor!, candidate.demand.workerId)
  }
  return candidate
}

export const preferredCandidate = (
  fn: RegisteredFunction,
  candidates: ReadonlyArray<Candidate>
): Candidate | undefined => {
  let best: Candidate | undefined
  let bestMatches = false
  for (const candidate of candidates) {
    if (candidate.room <= 0) continue
    const matches = candidate.demand.functions.get(fn.registration.id) === codeVersionOf(fn.registration)
    if (
      best === undefined ||
      (matches && !bestMatches) ||
      (matches === bestMatches && candidate.room > best.room)
    ) {
      best = candidate
      bestMatches = matches
    }
  }
  return best
}
