/** The process of the command: its Node version, its warnings, its standard output, and the signals that end it. */
import * as Effect from "effect/Effect"
import { type IronflowError, NodeVersionError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"
import { nodeProblem, runtimeProblem } from "../NodeVersion.ts"

/** Fails with a `NodeVersionError` when the runtime is not Node, and with a usage error when Node is too old. */
export const requireNode: Effect.Effect<void, IronflowError> = Effect.suspend(
  (): Effect.Effect<void, IronflowError> => {
    const runtimeProblemText = runtimeProblem(
      "the ironflow command",
      "Run it with Node.js: `npx ironflow`, or `bunx ironflow` without `--bun` where Node.js is installed"
    )
    if (runtimeProblemText !== undefined)
      return Effect.fail(new NodeVersionError(runtimeProblemText, { code: "NODE_NEEDED" }))
    const versionProblemText = nodeProblem()
    return versionProblemText === undefined
      ? Effect.void
      : Effect.fail(new CommandError(versionProblemText, { code: "USAGE" }))
  }
)

/** Hides the warning of older Node versions that SQLite is experimental: users can do nothing about it. */
export const silenceSqliteWarning = (): void => {
  const warn = process.emitWarning
  process.emitWarning = (warning: string | Error, ...rest: Array<never>) => {
    if (!String(warning).includes("SQLite is an experimental feature")) warn.call(process, warning, ...rest)
  }
}

/** How long a command may still run after the second signal. */
const GRACE_MS = 2000

/**
 * The first signal asks the command to end. After the second signal the command has {@link GRACE_MS} left.
 * The third signal ends the command at once. Returns a function that tells whether the second signal came.
 */
export const forceOnSecondSignal = (): (() => boolean) => {
  let signals = 0
  const onSignal = () => {
    signals++
    if (signals === 2) {
      Effect.runFork(
        Effect.andThen(
          Effect.sleep(GRACE_MS),
          Effect.sync(() => process.exit(1))
        )
      )
    }
    if (signals > 2) process.exit(1)
  }
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal)
  return () => signals > 1
}

/** Waits for the next signal that asks the command to end. */
export const nextSignal: Effect.Effect<void> = Effect.callback((resume) => {
  const onSignal = () => resume(Effect.void)
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal)
  return Effect.sync(() => process.off("SIGINT", onSignal).off("SIGTERM", onSignal))
})

let unfinished = false

/**
 * Makes the process exit with a failure although no error ended the command: a signal stopped the command before
 * it had printed its result, or its output could not be written.
 */
export const leaveUnfinished = (): void => {
  unfinished = true
}

export const isUnfinished = (): boolean => unfinished

/**
 * Ends the command cleanly, as a signal does, when standard output can no longer be written. Unless the reader of the
 * output has gone, as in `ironflow subscribe ... | head`, first calls `onFailure` and makes the process exit with a
 * failure. Errors of standard error are ignored.
 */
export const endWhenOutputFails = (onFailure: (error: NodeJS.ErrnoException) => void): void => {
  let hasFailed = false
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // every further line fails too, and a second SIGTERM would force the command to end
    if (hasFailed) return
    hasFailed = true
    if (error.code !== "EPIPE") {
      leaveUnfinished()
      // the command may have ended already: then its teardown no longer sets the exit code
      process.exitCode = 1
      onFailure(error)
    }
    process.emit("SIGTERM", "SIGTERM")
  })
  process.stderr.on("error", () => {})
}

/** How often to check whether the parent process still runs. */
const CHECK_MS = 250

/**
 * Ends the command cleanly when the `npx` that started it has ended: `npx` does not pass on a SIGTERM that it
 * gets. When a parent other than `npx` ends, the command continues.
 */
export const endWithNpx = (): void => {
  const parentPid = process.ppid
  if (process.env["npm_command"] !== "exec" || parentPid <= 1) return
  const timer = setInterval(() => {
    if (process.ppid === parentPid) return
    clearInterval(timer)
    process.emit("SIGTERM", "SIGTERM")
  }, CHECK_MS)
  timer.unref()
  // the signal was sent to this process too, so the parent no longer matters
  const stop = () => clearInterval(timer)
  process.once("SIGINT", stop).once("SIGTERM", stop)
}
