/**
 * Measures what a process costs. The process itself asks for it, or its parent over IPC if this module is preloaded with
 * `--import`.
 */
import { type GCProfilerResult, GCProfiler } from "node:v8"
import { Session } from "node:inspector/promises"
import { type Share, sharesOfAllocations, sharesOfTime } from "./shares.ts"

export interface Cost {
  /** User and system time, in milliseconds. */
  readonly cpuMs: number
  readonly gcMs: number
  readonly allocatedBytes: number
  /** The allocated bytes that outlived two collections of young objects. Only a full collection frees them. */
  readonly promotedBytes: number
  /** What took the time or the memory, if a profile was requested. */
  readonly shares?: ReadonlyArray<Share>
}

/** What to profile. A profile itself costs time. */
export type Profiled = "none" | "time" | "allocations"

let began = process.cpuUsage()
let gc = new GCProfiler()
let profiled: Profiled = "none"
const session = new Session()

const SAMPLE_US = 200
const SAMPLE_BYTES = 4096

export const begin = async (profile: Profiled): Promise<void> => {
  profiled = profile
  if (profiled !== "none") session.connect()
  if (profiled === "time") {
    await session.post("Profiler.enable")
    await session.post("Profiler.setSamplingInterval", { interval: SAMPLE_US })
    await session.post("Profiler.start")
  } else if (profiled === "allocations") {
    await session.post("HeapProfiler.startSampling", {
      samplingInterval: SAMPLE_BYTES,
      includeObjectsCollectedByMajorGC: true,
      includeObjectsCollectedByMinorGC: true
    })
  }
  gc = new GCProfiler()
  gc.start()
  began = process.cpuUsage()
}

export const end = async (): Promise<Cost> => {
  const { system, user } = process.cpuUsage(began)
  const cost = { cpuMs: (system + user) / 1000, ...collectionFigures(gc.stop()) }
  if (profiled === "time") {
    return { ...cost, shares: sharesOfTime((await session.post("Profiler.stop")).profile) }
  }
  if (profiled === "allocations") {
    return { ...cost, shares: sharesOfAllocations((await session.post("HeapProfiler.stopSampling")).profile) }
  }
  return cost
}

type HeapStatistics = GCProfilerResult["statistics"][number]["afterGC"]

/** The allocated bytes are the growth of the heap from the end of one collection to the beginning of the next. */
const collectionFigures = ({
  statistics
}: GCProfilerResult): Pick<Cost, "gcMs" | "allocatedBytes" | "promotedBytes"> => {
  let allocatedBytes = 0
  let promotedBytes = 0
  let gcMs = 0
  let after: number | undefined
  for (const { afterGC, beforeGC, cost, gcType } of statistics) {
    if (gcType === "Scavenge") promotedBytes += oldBytes(afterGC) - oldBytes(beforeGC)
    if (after !== undefined) allocatedBytes += beforeGC.heapStatistics.usedHeapSize - after
    after = afterGC.heapStatistics.usedHeapSize
    gcMs += cost / 1000
  }
  return { gcMs, allocatedBytes, promotedBytes }
}

const oldBytes = ({ heapSpaceStatistics }: HeapStatistics): number =>
  heapSpaceStatistics.find(({ spaceName }) => spaceName === "old_space")?.spaceUsedSize ?? 0

process.on("message", (asked: "end" | { readonly begin: Profiled }) => {
  if (asked === "end") void end().then((cost) => process.send?.(cost))
  else void begin(asked.begin).then(() => process.send?.("begun"))
})
process.channel?.unref()
