/**
 * Keeps V8 from taking memory that it could do without. On a large machine it lets the young generation grow to 128 MB, all of which a
 * moment of work may fill with what nobody needs any more, and the old one to four times what is in use. How large they may be is fixed
 * when Node starts, by flags that users would have to give; by how much they grow is asked each time.
 */
import { PerformanceObserver } from "node:perf_hooks"
import process from "node:process"
import v8 from "node:v8"

/** Bytes of the young generation up to which it grows: it doubles, and this is in between. */
const YOUNG_BYTES = 12 * 1024 * 1024

/** By how much the old one grows before it is collected again, percent. */
const OLD_PERCENT = 50

export const boundHeap = (): void => {
  v8.setFlagsFromString(`--heap-growing-percent=${OLD_PERCENT}`)
  // whoever has given Node a size knows better
  if (/semi[-_]space/.test([...process.execArgv, process.env.NODE_OPTIONS ?? ""].join(" "))) return
  let grows = true
  const grow = (allowed: boolean): void => {
    if (grows === allowed) return
    grows = allowed
    v8.setFlagsFromString(`--semi-space-growth-factor=${allowed ? 2 : 1}`)
  }
  // what is loaded at once would make it as large as can be
  grow(false)
  const young = (): number =>
    v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? 0
  new PerformanceObserver(() => grow(young() < YOUNG_BYTES)).observe({ entryTypes: ["gc"] })
}
