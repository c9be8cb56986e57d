/** The time of the engine, since the clock of the browser may be wrong. */
import { signal } from "@preact/signals"

/** A smaller difference between the clocks is ignored, in milliseconds: a slow answer looks the same. */
const TOLERANCE_MS = 5000
/** How far the engine's clock is ahead of the browser's, in milliseconds. */
let ahead = 0

export const engineNow = (): number => Date.now() + ahead

/** The current time of the engine, updated once a second. */
export const now = signal(engineNow())
setInterval(() => {
  if (!document.hidden) now.value = engineNow()
}, 1000)

/**
 * Compares the clocks. `date` is the `Date` of an answer, and its request was sent at `sentAt` by the
 * browser's clock.
 */
export const noteDate = (date: string | null, sentAt: number): void => {
  const at = Date.parse(date ?? "")
  if (Number.isNaN(at)) return
  // half a second is added, since the date has whole seconds
  const found = at + 500 - (sentAt + Date.now()) / 2
  const next = Math.abs(found) < TOLERANCE_MS ? 0 : found
  if (Math.abs(next - ahead) < TOLERANCE_MS) return
  ahead = next
  now.value = engineNow()
}
