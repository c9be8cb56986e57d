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

/** A worker with room, during a claim. */
export interface Candidate {
  readonly demand: Demand
  credit: number
}

/** Workers that may have the same runs of a function. */
export interface Lane {
  /** The version that the runs are pinned to; absent for a function that pins none. */
  readonly pin?: string
  /** The workers with room. */
  readonly candidates: ReadonlyArray<Candidate>
  /** The connected workers, with room or without, and those of other engines. */
  readonly present: ReadonlyArray<Candidate>
}

/**
 * The lanes of a function. If it pins runs, the runs of each version go to the workers that have it. Runs that have not begun go
 * to workers of the latest version, or to any when none of those is connected to any engine.
 */
export const lanesOf = (
  fn: RegisteredFunction,
  candidates: ReadonlyArray<Candidate>,
  present: ReadonlyArray<Candidate>
): ReadonlyArray<Lane> => {
  const versionOf = ({ demand }: Candidate) => demand.functions.get(fn.registration.id)
  const of = (version: string) => (candidate: Candidate) => versionOf(candidate) === version
  const latest = of(codeVersionOf(fn.registration))
  const versions = new Set(candidates.map((candidate) => versionOf(candidate) ?? NO_PIN))
  versions.delete(NO_PIN)
  // workers of other engines are known only while the function pins
  const { versioning } = fn.registration
  const counts = ({ demand }: Candidate) => demand.isElsewhere !== true || versioning === "pin"
  const fresh = present.some((candidate) => latest(candidate) && counts(candidate))
    ? { candidates: candidates.filter(latest), present: present.filter(latest) }
    : { candidates, present }
  return [
    ...[...versions].map((pin) => ({
      pin,
      candidates: candidates.filter(of(pin)),
      present: present.filter(of(pin))
    })),
    { pin: NO_PIN, ...fresh }
  ]
}

/**
 * SQL: the runs of one version, by the index of pins. Of a paused function, the runs that have begun have another index, and so
 * have those of a concurrency key: then the index of pins must not be used.
 */
export const laneCondition = (fn: RegisteredFunction, { pin }: Lane): string =>
  pin === undefined
    ? ""
    : fn.paused === undefined && fn.registration.concurrency === undefined
      ? "AND r.pin = ? AND r.pin IS NOT NULL AND r.ended_at IS NULL"
      : "AND r.pin = ?"

/** SQL: leaves out runs whose actor is bound to a worker without room, because they would block others. */
const ACTOR_HAS_ROOM = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker NOT IN (SELECT value FROM json_each(?))))`

/**
 * The same in a lane: only a worker of the lane without room keeps its actors. A worker of another version, which cannot have the
 * run, does not.
 */
const ACTOR_IS_FREE = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker IN (SELECT value FROM json_each(?))))`

const withoutRoom = (present: ReadonlyArray<Candidate>): string =>
  JSON.stringify(present.filter(({ credit }) => credit <= 0).map(({ demand }) => demand.workerId))

const withRoom = (candidates: ReadonlyArray<Candidate>): string =>
  JSON.stringify(candidates.filter(({ credit }) => credit > 0).map(({ demand }) => demand.workerId))

/** The value for {@link actorCondition}; `undefined` for a function without actors. */
export const actorsOf = (fn: RegisteredFunction, { pin, present, candidates }: Lane): string | undefined => {
  if (fn.registration.actorKey === undefined) return undefined
  return pin === undefined ? withRoom(candidates) : withoutRoom(present)
}

/** SQL: leaves out the runs whose actor has to wait for its worker. */
export const actorCondition = ({ pin }: Lane): string => (pin === undefined ? ACTOR_HAS_ROOM : ACTOR_IS_FREE)

const FIND_WORKER_OF_ACTOR = statement(
  "Lanes.findWorkerOfActor",
  "SELECT worker FROM actors WHERE function = ? AND actor = ?"
)

const PUT_ACTOR = statement(
  "Lanes.putActor",
  "INSERT INTO actors (function, actor, worker) VALUES (?, ?, ?) ON CONFLICT (function, actor) DO UPDATE SET worker = excluded.worker"
)

/** The worker for a run: the one that is bound to its actor while that lives, otherwise the preferred one with room. */
export function* chooseCandidate(
  fn: RegisteredFunction,
  row: Row,
  candidates: ReadonlyArray<Candidate>,
  { pin, present }: Lane
): Program<Candidate | undefined> {
  if (row.actor === null) return preferredCandidate(fn, candidates)
  const bound = yield* get(FIND_WORKER_OF_ACTOR, fn.key, row.actor!)
  // if the function pins runs, this worker may have another version, so that it cannot have the run
  if (
    bound !== undefined &&
    (pin === undefined || present.some(({ demand }) => demand.workerId === bound.worker))
  ) {
    return candidates.find(({ credit, demand }) => credit > 0 && demand.workerId === bound.worker)
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
    if (candidate.credit <= 0) continue
    const matches = candidate.demand.functions.get(fn.registration.id) === codeVersionOf(fn.registration)
    if (
      best === undefined ||
      (matches && !bestMatches) ||
      (matches === bestMatches && candidate.credit > best.credit)
    ) {
      best = candidate
      bestMatches = matches
    }
  }
  return best
}
