/** One turn of the event loop: what connections send is worked on for so long in it, and the rest when others had their turn. */
import { PassingSet } from "../Passing.ts"
import { nextTick, setImmediate } from "../RealTimers.ts"

/** Milliseconds. */
const TURN_MS = 5

let endsAt: number | undefined
let turnBeganAt = 0

/** Whether there is time left in this turn. */
export const hasTime = (): boolean => {
  // how long something has taken is no time of day, and nothing else depends on it
  const now = performance.now()
  if (endsAt === undefined) {
    turnBeganAt = now
    endsAt = now + TURN_MS
    setImmediate(() => (endsAt = undefined))
  }
  return now < endsAt
}

/**
 * What waits for a turn: little that has just come, calls whose wait is over, the rest of what was too much for one turn, and large
 * bodies. Each kind has its share of the time, so that whoever asks for something small does not wait behind hundreds of others
 * that have sent more than can be worked on.
 */
export type Kind = "little" | "woken" | "rest" | "body"

class Lane {
  /** The oldest first. */
  readonly waiting = new PassingSet<() => void>()
  /** What it has taken, milliseconds; those that others took while nothing waited here count too. */
  tookMs = 0
}

const lanes: { readonly [kind in Kind]: Lane } = {
  little: new Lane(),
  woken: new Lane(),
  rest: new Lane(),
  body: new Lane()
}
const all = Object.values(lanes)
let isDue = false
/** What the lane has taken that goes on now. */
let reachedMs = 0

/**
 * Calls `f` in a later turn in which there is time for it. Those that wait are called one after the other, whatever connection they
 * are for: were each called in the next turn, the turn would be as long as there are many.
 */
export const whenTime = (kind: Kind, f: () => void): void => {
  const lane = lanes[kind]
  if (lane.waiting.size === 0) lane.tookMs = Math.max(lane.tookMs, reachedMs)
  lane.waiting.add(f)
  if (isDue) return
  isDue = true
  setImmediate(goOn)
}

/** The one of those with something to do that has taken least. */
const nextLane = (): Lane | undefined => {
  let next: Lane | undefined
  for (const lane of all) {
    if (lane.waiting.size > 0 && (next === undefined || lane.tookMs < next.tookMs)) next = lane
  }
  return next
}

const goOn = (): void => {
  const lane = nextLane()
  const [first] = lane?.waiting ?? []
  if (lane === undefined || first === undefined) return void (isDue = false)
  lane.waiting.delete(first)
  reachedMs = lane.tookMs
  // the turn begins here, unless it has: what comes first may take all of it
  hasTime()
  const beganAt = performance.now()
  try {
    first()
  } finally {
    // what it has begun takes its time before that is looked at
    nextTick(() => {
      const now = performance.now()
      lane.tookMs += now - beganAt
      if (hasTime()) goOn()
      // more turns than after other work, which does not come hundreds of times in a row
      else afterOthers(now - turnBeganAt + TURN_MS, goOn)
    })
  }
}

/** Turns of the event loop for each millisecond, and at most. */
const TURNS_A_MS = 1
const MOST_TURNS = 64

/** After so many turns of the event loop without a commit nothing waits for its turn any more: two pieces of work may come after others. */
export const QUIET_TURNS = 3 * MOST_TURNS

/**
 * Calls `f` in a later turn, after others: the longer the piece of work before it has taken, the more turns. In one turn a single new
 * connection is taken on, and a request of it comes in the next.
 */
export const afterOthers = (tookMs: number, f: () => void): void => {
  let left = Math.min(MOST_TURNS, Math.ceil(Math.max(0, tookMs - TURN_MS) * TURNS_A_MS))
  const turn = (): void => {
    if (left-- <= 0) f()
    else setImmediate(turn)
  }
  setImmediate(turn)
}

/** Calls `f` now, or when it has its turn. */
export const inTurn = (kind: Kind, f: () => void): void => {
  if (!someoneWaits() && hasTime()) f()
  else whenTime(kind, f)
}

/** Whether somebody waits: who comes later has no time before. */
export const someoneWaits = (): boolean => nextLane() !== undefined
