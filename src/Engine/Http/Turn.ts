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
