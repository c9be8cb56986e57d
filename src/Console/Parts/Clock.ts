/** The time of the engine, since the clock of the browser may be wrong. */
import { signal } from "@preact/signals"

/** Smaller differences between the clocks are ignored: a slow answer also looks like a difference. */
const TOLERANCE_MS = 5000
/** How far the engine's clock is ahead of the browser's clock. */
let aheadMs = 0

export const engineNow = (): number => Date.now() + aheadMs

/** The current time of the engine, updated once a second. */
export const now = signal(engineNow())
setInterval(() => {
  if (!document.hidden) now.value = engineNow()
}, 1000)

/**
 * Compares the clocks. `date` is the `Date` header of an answer. `sentAt` is when the request was sent, by the
 * browser's clock.
 */
export const noteDate = (date: string | null, sentAt: number): void => {
  const at = Date.parse(date ?? "")
  if (Number.isNaN(at)) return
  // half a second is added, since the header has whole seconds
  const measuredMs = at + 500 - (sentAt + Date.now()) / 2
  const nextMs = Math.abs(measuredMs) < TOLERANCE_MS ? 0 : measuredMs
  if (Math.abs(nextMs - aheadMs) < TOLERANCE_MS) return
  aheadMs = nextMs
  now.value = engineNow()
}
