/**
 * Shares the time of the event loop, whose turns are meant by "turn" here. Input of connections is processed for a limited time in
 * each turn. The rest is processed after other work has had its turn.
 */
import { ShortLivedSet } from "../ShortLivedMap.ts"
import { nextTick, setImmediate } from "../RealTimers.ts"

/** How long one turn works on input, milliseconds. */
const TURN_MS = 5

let endsAt: number | undefined
let turnBeganAt = 0

/** Whether there is time left in this turn. The first call in a turn starts its time. */
export const hasTime = (): boolean => {
  // the real clock: it measures only a duration, so tests need not set it
  const now = performance.now()
  if (endsAt === undefined) {
    turnBeganAt = now
    endsAt = now + TURN_MS
    setImmediate(() => (endsAt = undefined))
  }
  return now < endsAt
}

/**
 * The kinds of work that wait for a turn: small new input, calls whose wait is over, the rest of what was too much for one turn,
 * and large bodies. Each kind has its share of the time. So a small request does not wait behind hundreds of connections that
 * have sent too much.
 */
export type WorkKind = "little" | "woken" | "rest" | "body"

class Queue {
  /** Oldest first. */
  readonly waiting = new ShortLivedSet<() => void>()
  /** Time used, milliseconds. Time that other queues used while nothing waited in this one counts too. */
  tookMs = 0
}

const queues: { readonly [kind in WorkKind]: Queue } = {
  little: new Queue(),
  woken: new Queue(),
  rest: new Queue(),
  body: new Queue()
}
const all = Object.values(queues)
let isDue = false
/** The used time of the queue whose work runs now. */
let reachedMs = 0

/**
 * Calls `f` in a later turn that has time for it. Waiting callbacks are called one after the other, whichever connections they
 * are for. If each were called in the next turn, that turn would grow with the number of callbacks.
 */
export const whenTime = (kind: WorkKind, f: () => void): void => {
  const lane = queues[kind]
  if (lane.waiting.size === 0) lane.tookMs = Math.max(lane.tookMs, reachedMs)
  lane.waiting.add(f)
  if (isDue) return
  isDue = true
  setImmediate(goOn)
}

/** Among the queues with work, the one that has used the least time. */
const nextQueue = (): Queue | undefined => {
  let next: Queue | undefined
  for (const lane of all) {
    if (lane.waiting.size > 0 && (next === undefined || lane.tookMs < next.tookMs)) next = lane
  }
  return next
}

const goOn = (): void => {
  const lane = nextQueue()
  const [first] = lane?.waiting ?? []
  if (lane === undefined || first === undefined) return void (isDue = false)
  lane.waiting.delete(first)
  reachedMs = lane.tookMs
  // starts the time of this turn, unless it has started: the first callback may use all of it
  hasTime()
  const beganAt = performance.now()
  try {
    first()
  } finally {
    // in the next tick, so that the measurement includes what the callback has queued
    nextTick(() => {
      const now = performance.now()
      lane.tookMs += now - beganAt
      if (hasTime()) goOn()
      // waits for more turns than after other work, because other work does not come hundreds of times in a row
      else afterOthers(now - turnBeganAt + TURN_MS, goOn)
    })
  }
}

/** How many turns of the event loop to wait for each millisecond used. */
const TURNS_A_MS = 1
/** Maximum number of turns of the event loop that are waited for. */
const MAX_TURNS = 64

/**
 * After this many turns of the event loop without a commit, no work waits for its turn any more. The number allows for two pieces
 * of work that wait for other work.
 */
export const QUIET_TURNS = 3 * MAX_TURNS

/**
 * Calls `f` in a later turn, after other work. The longer the last piece of work took, the more turns later. Other connections
 * need these turns: one turn accepts a single new connection, and its request comes in the next one.
 */
export const afterOthers = (tookMs: number, f: () => void): void => {
  let left = Math.min(MAX_TURNS, Math.ceil(Math.max(0, tookMs - TURN_MS) * TURNS_A_MS))
  const turn = (): void => {
    if (left-- <= 0) f()
    else setImmediate(turn)
  }
  setImmediate(turn)
}

/** Calls `f` now if no other work waits and there is time, and otherwise in its turn. */
export const inTurn = (kind: WorkKind, f: () => void): void => {
  if (!someoneWaits() && hasTime()) f()
  else whenTime(kind, f)
}

/** Whether any work waits. New work must not overtake it. */
export const someoneWaits = (): boolean => nextQueue() !== undefined
