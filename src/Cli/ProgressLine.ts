/**
 * Progress of something that takes long. On a terminal it is one line, which is removed at the end. Elsewhere, as in the log of a job, a
 * line is printed every few seconds, and none with `--json`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** How often a line is printed where there is no terminal, milliseconds. */
const LINE_EVERY_MS = 5000

let nowMs: (() => number) | undefined
let printedAt = 0

/** Replaces the shown progress. */
export const showProgress = (text: string): void => {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r${text}\u001B[K`)
    return
  }
  if (nowMs === undefined || nowMs() - printedAt < LINE_EVERY_MS || process.argv.includes("--json")) return
  printedAt = nowMs()
  process.stderr.write(`${text}\n`)
}

/** Runs something that reports its progress, and removes the line on the terminal afterwards. */
export const withProgressLine = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.Clock, (clock) => {
    nowMs = () => clock.currentTimeMillisUnsafe()
    printedAt = nowMs()
    return Effect.ensuring(
      effect,
      Effect.sync(() => {
        nowMs = undefined
        if (process.stderr.isTTY) showProgress("")
      })
    )
  })
