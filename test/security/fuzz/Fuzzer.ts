/**
 * Sends inputs to a server, several at once, and stops as soon as something breaks: the server or the app has ended, was too
 * slow, too large or too busy, or reports a bug, or the good client cannot continue to work.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { Garbage } from "./Garbage.ts"
import { inputOf, transportOf, type Transport } from "./Inputs.ts"
import { Problem, Target } from "./Target.ts"
import { type Bounds, type Report, Watcher } from "./Watched.ts"

export interface FuzzOptions {
  readonly seed: number
  /** Whether every call needs a key. Without keys every caller may do everything. */
  readonly withKeys: boolean
  /** The number of the first input; 0 by default. */
  readonly from?: number
  /** The number of inputs; by default as many as there is time for. */
  readonly count?: number
  readonly minutes?: number
  /** Sends only over these transports; over all by default. */
  readonly transports?: ReadonlyArray<Transport>
  readonly bounds?: Partial<Bounds>
}

export interface FuzzResult {
  readonly inputs: number
  /** Describes what broke; `undefined` if nothing did. */
  readonly broken: string | undefined
  readonly report: Report | undefined
}

const BOOTSTRAP = "bootstrap-key-of-the-operator-0123456789"
const LANES = 12
/** How many of the last inputs are shown when something breaks. Things may break a moment after their cause. */
const REMEMBERED = 24

export const defaultBounds: Bounds = { healthMs: 1000, loopMs: 1000, rssMb: 300, runMs: 10_000 }

interface Sent {
  readonly index: number
  readonly transport: Transport
  readonly shown: string
  state: "sent" | "ended"
}

export const fuzz = async ({
  bounds,
  count,
  from = 0,
  minutes,
  seed,
  transports,
  withKeys
}: FuzzOptions): Promise<FuzzResult> => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-fuzz-"))
  const bootstrapKey = withKeys ? BOOTSTRAP : undefined
  const garbage = await Garbage.listen(seed)
  const watcher = await Watcher.start({
    folder,
    bounds: { ...defaultBounds, ...bounds },
    ...(bootstrapKey === undefined ? {} : { bootstrapKey })
  })
  const end = performance.now() + (minutes ?? Number.POSITIVE_INFINITY) * 60_000
  const last: Array<Sent> = []
  let broken: string | undefined
  let culprit: number | undefined
  let next = from
  let sent = 0
  const mayContinue = (): boolean =>
    broken === undefined &&
    watcher.broken === undefined &&
    (count === undefined || next < from + count) &&
    performance.now() < end

  try {
    const target = await Target.prepare({
      url: watcher.url,
      appUrl: watcher.appUrl,
      garbageUrl: garbage.url,
      bootstrapKey
    })
    const lane = async (): Promise<void> => {
      while (mayContinue()) {
        const index = next++
        if (transports?.includes(transportOf(index)) === false) continue
        const input = inputOf(seed, index, target)
        const entry: Sent = { index, transport: input.transport, shown: input.shown, state: "sent" }
        last.push(entry)
        if (last.length > REMEMBERED) last.shift()
        try {
          await input.send()
        } catch (error) {
          if (!(error instanceof Problem)) throw error
          culprit ??= index
          broken ??= `Input ${index} (${input.transport}): the server ${error.message}\n  ${input.shown}`
        }
        entry.state = "ended"
        sent++
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
    target.close()
    // the last inputs take effect meanwhile, and what broke may report more
    await delay(500)
  } finally {
    garbage.close()
  }
  const report = await watcher.end()
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  const hangs =
    report === undefined ? "The good client did not end: one of its runs or calls hangs" : undefined
  const description = watcher.broken ?? broken ?? hangs
  if (description === undefined) return { inputs: sent, broken: undefined, report }
  const first = culprit ?? Math.min(...last.map(({ index }) => index))
  const length = culprit === undefined ? next - first : 1
  const command = `npm run fuzz -- --seed ${seed}${withKeys ? " --keys" : " --open"} --from ${first} --count ${length}`
  const record = last.map(
    ({ index, shown, state, transport }) => `${index} ${transport} (${state}): ${shown}`
  )
  return {
    inputs: sent,
    report,
    broken: `${description}\n\nThe last inputs of seed ${seed}; this sends them again:\n  ${command}\n\n${record.join("\n")}`
  }
}
