/**
 * Which workers may have which runs of a function: those of a function that pins runs are for workers of their version, and runs of one
 * actor for the worker that has the actor.
 */
import { codeVersionOf } from "../../Versioning.ts"
import { NO_PIN } from "../Functions/Pins.ts"
import type { RegisteredFunction } from "../Functions/Registry.ts"
import { get, type Program, statement, write } from "../Store/Program.ts"
import type { Row } from "../Store/Transaction.ts"
import type { Demand } from "./TurnRecords.ts"

/** A worker with room, while runs are being handed out. */
export interface Taker {
  readonly demand: Demand
  credit: number
}

/** Workers that may have the same runs of a function. */
export interface Lane {
  /** The version that the runs are pinned to; absent of a function that pins none. */
  readonly pin?: string
  /** Those with room. */
  readonly takers: ReadonlyArray<Taker>
  /** Those that are there, with room or without. */
  readonly present: ReadonlyArray<Taker>
}

/**
 * Of a function that pins runs: each version's runs for the workers that have it. Runs that none has begun are for workers of the latest
 * version, or for any when none of that is there.
 */
export const lanesOf = (
  fn: RegisteredFunction,
  takers: ReadonlyArray<Taker>,
  present: ReadonlyArray<Taker>
): ReadonlyArray<Lane> => {
  const versionOf = ({ demand }: Taker) => demand.functions.get(fn.registration.id)
  const of = (version: string) => (taker: Taker) => versionOf(taker) === version
  const latest = of(codeVersionOf(fn.registration))
  const versions = new Set(takers.map((taker) => versionOf(taker) ?? NO_PIN))
  versions.delete(NO_PIN)
  const fresh = present.some(latest)
    ? { takers: takers.filter(latest), present: present.filter(latest) }
    : { takers, present }
  return [
    ...[...versions].map((pin) => ({
      pin,
      takers: takers.filter(of(pin)),
      present: present.filter(of(pin))
    })),
    { pin: NO_PIN, ...fresh }
  ]
}

/**
 * Runs of one version, those of the index of pins. Of a function that is paused those that have begun have an index of their own, and so
 * have those of a concurrency key: then it must not be that of the pins.
 */
export const laneCondition = (fn: RegisteredFunction, { pin }: Lane): string =>
  pin === undefined
    ? ""
    : fn.paused === undefined && fn.registration.concurrency === undefined
      ? "AND r.pin = ? AND r.pin IS NOT NULL AND r.ended_at IS NULL"
      : "AND r.pin = ?"

/** Runs whose actor is bound to a worker without room are left out: they would stand in the way of others. */
const ACTOR_HAS_ROOM = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker NOT IN (SELECT value FROM json_each(?))))`

/**
 * The same in a lane: only a worker of it that has no room keeps its actors. One of another version, which cannot have the run, does not.
 */
const ACTOR_IS_FREE = `AND (r.actor IS NULL OR NOT EXISTS (SELECT 1 FROM actors a
  WHERE a.function = r.function AND a.actor = r.actor AND a.worker IN (SELECT value FROM json_each(?))))`

const withoutRoom = (present: ReadonlyArray<Taker>): string =>
  JSON.stringify(present.filter(({ credit }) => credit <= 0).map(({ demand }) => demand.workerId))

const withRoom = (takers: ReadonlyArray<Taker>): string =>
  JSON.stringify(takers.filter(({ credit }) => credit > 0).map(({ demand }) => demand.workerId))

/** The value of {@link actorCondition}; `undefined` for a function without actors. */
export const actorsOf = (fn: RegisteredFunction, { pin, present, takers }: Lane): string | undefined => {
  if (fn.registration.actorKey === undefined) return undefined
  return pin === undefined ? withRoom(takers) : withoutRoom(present)
}

/** Leaves out the runs whose actor has to wait for its worker. */
export const actorCondition = ({ pin }: Lane): string => (pin === undefined ? ACTOR_HAS_ROOM : ACTOR_IS_FREE)

const CHOOSE_TAKER = statement(
  "Claims.chooseTaker",
  "SELECT worker FROM actors WHERE function = ? AND actor = ?"
)

const CHOOSE_TAKER_2 = statement(
  "Claims.chooseTaker.2",
  "INSERT INTO actors (function, actor, worker) VALUES (?, ?, ?) ON CONFLICT (function, actor) DO UPDATE SET worker = excluded.worker"
)

/** The worker for a run: the one of its actor while that lives, else the preferred one with room. */
export function* chooseTaker(
  fn: RegisteredFunction,
  row: Row,
  takers: ReadonlyArray<Taker>,
  { pin, present }: Lane
): Program<Taker | undefined> {
  if (row.actor === null) return preferred(fn, takers)
  const bound = yield* get(CHOOSE_TAKER, fn.key, row.actor!)
  // of a function that pins runs it may be a worker of another version, which cannot have it
  if (
    bound !== undefined &&
    (pin === undefined || present.some(({ demand }) => demand.workerId === bound.worker))
  ) {
    return takers.find(({ credit, demand }) => credit > 0 && demand.workerId === bound.worker)
  }
  const taker = preferred(fn, takers)
  if (taker !== undefined) {
    yield* write(CHOOSE_TAKER_2, fn.key, row.actor!, taker.demand.workerId)
  }
  return taker
}

export const preferred = (fn: RegisteredFunction, takers: ReadonlyArray<Taker>): Taker | undefined => {
  let best: Taker | undefined
  let bestMatches = false
  for (const taker of takers) {
    if (taker.credit <= 0) continue
    const matches = taker.demand.functions.get(fn.registration.id) === codeVersionOf(fn.registration)
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
