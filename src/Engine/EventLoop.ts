/**
 * Shares the time of Node's event loop between connections and other work. In this file, a "turn" is a turn of the event loop.
 * Each turn processes input of connections for a limited time. The input that is left is processed in later turns, after other
 * work.
 */
import { ShortLivedSet } from "../ShortLivedMap.ts"
import { nextTick, setImmediate } from "../RealTimers.ts"

/** How long one turn works on input. */
const TURN_MS = 5

let turnEndsAt: number | undefined
let turnBeganAt = 0

/** Whether there is time left in this turn. The first call in a turn starts its time. */
export const hasTime = (): boolean => {
  // the real clock: it measures only a duration, so tests need not set it
  const now = performance.now()
  if (turnEndsAt === undefined) {
    turnBeganAt = now
    turnEndsAt = now + TURN_MS
    setImmediate(() => (turnEndsAt = undefined))
  }
  return now < turnEndsAt
}

/**
 * The kinds of work that wait for a turn. `little`: small new input. `woken`: calls whose wait is over. `rest`: what is left of input
 * that was too much for one turn. `body`: large bodies. Each kind has its share of the time, so a small request does not wait behind
 * hundreds of connections that have sent too much.
 */
export type WorkKind = "little" | "woken" | "rest" | "body"

class Queue {
  /** Oldest first. */
  readonly waiting = new ShortLivedSet<() => void>()
  /** Time that the work of this queue has used. While this queue is empty, the time of other queues counts too. */
  usedMs = 0
}

const queues: { readonly [kind in WorkKind]: Queue } = {
  little: new Queue(),
  woken: new Queue(),
  rest: new Queue(),
  body: new Queue()
}
const allQueues = Object.values(queues)
/** Whether {@link runNext} is going to be called. */
let isScheduled = false
/** The `usedMs` of the queue from which work ran last, as it was when that work began. */
let lastUsedMs = 0

/**
 * Calls `f` in a later turn that has time left. Waiting callbacks are called one by one, for all connections together. If all
 * were called in the next turn, that turn would take longer the more callbacks there are.
 */
export const callWhenTime = (kind: WorkKind, f: () => void): void => {
  const queue = queues[kind]
  if (queue.waiting.size === 0) queue.usedMs = Math.max(queue.usedMs, lastUsedMs)
  queue.waiting.add(f)
  if (isScheduled) return
  isScheduled = true
  setImmediate(runNext)
}

/** Of the queues that have waiting work, the queue that has used the least time. */
const nextQueue = (): Queue | undefined => {
  let next: Queue | undefined
  for (const queue of allQueues) {
    if (queue.waiting.size > 0 && (next === undefined || queue.usedMs < next.usedMs)) next = queue
  }
  return next
}

const runNext = (): void => {
  const queue = nextQueue()
  const [first] = queue?.waiting ?? []
  if (queue === undefined || first === undefined) return void (isScheduled = false)
  queue.waiting.delete(first)
  lastUsedMs = queue.usedMs
  // starts the time of this turn if it has not started: the first callback may use all of this time
  hasTime()
  const beganAt = performance.now()
  try {
    first()
  } finally {
    // measures in the next tick, so that the measurement includes what the callback has queued
    nextTick(() => {
      const now = performance.now()
      queue.usedMs += now - beganAt
      if (hasTime()) runNext()
      // TURN_MS is added, since `callAfterOthers` subtracts it: hundreds of such callbacks may follow each other, so all of their
      // time counts
      else callAfterOthers(now - turnBeganAt + TURN_MS, runNext)
    })
  }
}

/** How many turns {@link callAfterOthers} waits for each millisecond that the work took longer than {@link TURN_MS}. */
const TURNS_PER_MS = 1
/** Maximum number of turns that {@link callAfterOthers} waits. */
const MAX_TURNS = 64

/**
 * After this many turns without a commit, no work waits any more. The number allows for a chain of three pieces of work, each of
 * which waits {@link MAX_TURNS} and then starts the next piece.
 */
export const QUIET_TURNS = 3 * MAX_TURNS

/**
 * Calls `f` in a later turn, after other work. The longer the last piece of work took (`tookMs`), the more turns `f` waits. Other
 * connections need these turns: one turn accepts a single new connection, and the request of that connection comes in the next
 * turn.
 */
export const callAfterOthers = (tookMs: number, f: () => void): void => {
  let turnsLeft = Math.min(MAX_TURNS, Math.ceil(Math.max(0, tookMs - TURN_MS) * TURNS_PER_MS))
  const turn = (): void => {
    if (turnsLeft-- <= 0) f()
    else setImmediate(turn)
  }
  setImmediate(turn)
}

/** Calls `f` now if no other work waits and this turn has time left, and otherwise in a later turn. */
export const inTurn = (kind: WorkKind, f: () => void): void => {
  if (!isWorkWaiting() && hasTime()) f()
  else callWhenTime(kind, f)
}

/** Whether any work waits. New work must not overtake waiting work. */
export const isWorkWaiting = (): boolean => nextQueue() !== undefined
