/**
 * Limits the memory that V8 takes without need. On a large machine V8 lets the young generation grow to 128 MB, which a
 * short burst of work may fill with garbage, and lets the old generation grow to four times the used memory. The size
 * limits of V8 are fixed when Node starts, by flags that users would have to set. This file limits how fast the
 * generations grow: that can be changed at run time.
 */
import { PerformanceObserver } from "node:perf_hooks"
import process from "node:process"
import v8 from "node:v8"

/**
 * The young generation may grow as long as it is smaller than this. V8 doubles the size of the young generation each
 * time, so the growth stops at 16 MB.
 */
const YOUNG_BYTES = 12 * 1024 * 1024

/** By how many percent the old generation may grow before it is collected again. */
const OLD_PERCENT = 50

/** Makes both generations grow more slowly from now on. */
export const boundHeap = (): void => {
  v8.setFlagsFromString(`--heap-growing-percent=${OLD_PERCENT}`)
  // the user has set the size of the young generation, so its growth is left alone
  if (/semi[-_]space/.test([...process.execArgv, process.env.NODE_OPTIONS ?? ""].join(" "))) return
  let grows = true
  const allowGrowth = (allowed: boolean): void => {
    if (grows === allowed) return
    grows = allowed
    v8.setFlagsFromString(`--semi-space-growth-factor=${allowed ? 2 : 1}`)
  }
  // no growth before the first collection: loading the modules would make the young generation as large as
  // possible
  allowGrowth(false)
  const youngBytes = (): number =>
    v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? 0
  new PerformanceObserver(() => allowGrowth(youngBytes() < YOUNG_BYTES)).observe({ entryTypes: ["gc"] })
}
