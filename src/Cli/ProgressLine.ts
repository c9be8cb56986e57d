/**
 * Shows the progress of a long operation. On a terminal this is one line, which is removed at the end. Elsewhere,
 * as in the log of a CI job, a line is printed every few seconds, except with `--json`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** How often a line is printed where there is no terminal. */
const LINE_INTERVAL_MS = 5000

/** The clock of the operation whose progress is shown; `undefined` while there is none. */
let nowMs: (() => number) | undefined
let printedAt = 0

/** On a terminal, shows the text in place of the last text. Elsewhere, prints the text if it is time for a line. */
export const showProgress = (text: string): void => {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r${text}\u001B[K`)
    return
  }
  if (nowMs === undefined || nowMs() - printedAt < LINE_INTERVAL_MS || process.argv.includes("--json")) return
  printedAt = nowMs()
  process.stderr.write(`${text}\n`)
}

/** Runs the effect, which may show progress, and then removes the line from the terminal. */
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
