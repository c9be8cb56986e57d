/**
 * A profile as shares of places, files and functions. A share counts only the time or memory of the functions themselves, not of
 * the functions that they call.
 */
import type { HeapProfiler, Profiler, Runtime } from "node:inspector"

export interface Share {
  readonly kind: "place" | "file" | "function"
  readonly name: string
  /** The share of all time that was not idle, or of all allocated memory. */
  readonly share: number
}

const placeOf = (file: string): string => {
  if (file === "") return "(native)"
  if (file.startsWith("node:")) return "node"
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)
  if (inPackage?.[1] !== undefined) return inPackage[1]
  return /\/(src\/[^/]+|bench)/.exec(file)?.[1] ?? "other"
}

const shortOf = (file: string): string =>
  file.startsWith("node:") ? file : file.replace(/^.*\/(?=(?:src|bench|dist)\/)/, "")

class Sums {
  readonly #sums = {
    place: new Map<string, number>(),
    file: new Map<string, number>(),
    function: new Map<string, number>()
  }
  #all = 0

  add(
    { functionName, lineNumber, url }: Runtime.CallFrame | Profiler.ProfileNode["callFrame"],
    amount: number
  ): void {
    this.#all += amount
    const file = shortOf(url)
    const place = `${functionName || "(anonymous)"} ${url === "" ? "" : `${file}:${lineNumber + 1}`}`.trim()
    for (const [kind, name] of [
      ["place", placeOf(url)],
      ["file", file || functionName],
      ["function", place]
    ] as const) {
      this.#sums[kind].set(name, (this.#sums[kind].get(name) ?? 0) + amount)
    }
  }

  shares(): Array<Share> {
    return (["place", "file", "function"] as const).flatMap((kind) =>
      [...this.#sums[kind]]
        .map(([name, amount]) => ({ kind, name, share: amount / this.#all }))
        .sort((a, b) => b.share - a.share)
    )
  }
}

export const sharesOfTime = ({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Array<Share> => {
  const took = new Map<number, number>()
  for (const [i, id] of samples.entries()) took.set(id, (took.get(id) ?? 0) + (timeDeltas[i] ?? 0))
  const sums = new Sums()
  for (const { callFrame, id } of nodes) {
    if (callFrame.functionName !== "(idle)") sums.add(callFrame, took.get(id) ?? 0)
  }
  return sums.shares()
}

export const sharesOfAllocations = ({ head }: HeapProfiler.SamplingHeapProfile): Array<Share> => {
  const sums = new Sums()
  const add = ({ callFrame, children, selfSize }: HeapProfiler.SamplingHeapProfileNode): void => {
    sums.add(callFrame, selfSize)
    children.forEach(add)
  }
  add(head)
  return sums.shares()
}
