/** One turn of the event loop: what connections send is worked on for so long in it, and the rest when others had their turn. */

/** Milliseconds. */
const TURN_MS = 5

let endsAt: number | undefined

/** Whether there is time left in this turn. */
export const hasTime = (): boolean => {
  // how long something has taken is no time of day, and nothing else depends on it
  const now = performance.now()
  if (endsAt === undefined) {
    endsAt = now + TURN_MS
    setImmediate(() => (endsAt = undefined))
  }
  return now < endsAt
}

/** What waits for a turn with time for it, the oldest first. */
const waiting = new Set<() => void>()
let isDue = false

/**
 * Calls `f` in a later turn in which there is time for it. Those that wait are called one after the other, whatever connection they
 * are for: were each called in the next turn, the turn would be as long as there are many.
 */
export const whenTime = (f: () => void): void => {
  waiting.add(f)
  if (isDue) return
  isDue = true
  setImmediate(goOn)
}

const goOn = (): void => {
  isDue = false
  try {
    for (const f of waiting) {
      waiting.delete(f)
      f()
      if (!hasTime()) return
    }
  } finally {
    if (waiting.size > 0 && !isDue) {
      isDue = true
      setImmediate(goOn)
    }
  }
}

/** Whether somebody waits: who comes later has no time before. */
export const someoneWaits = (): boolean => waiting.size > 0
