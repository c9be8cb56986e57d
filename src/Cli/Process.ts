/** The process that the command runs in: its Node, its warnings, and the signals that end it. */
import * as Effect from "effect/Effect"
import { type IronflowError, NodeVersionError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"
import { nodeProblem, runtimeProblem } from "../NodeVersion.ts"

/** Fails with a usage error on a Node that is too old, and where there is none. */
export const checkNode: Effect.Effect<void, IronflowError> = Effect.suspend(
  (): Effect.Effect<void, IronflowError> => {
    const noNode = runtimeProblem(
      "the ironflow command",
      "Run it with Node.js: `npx ironflow`, or `bunx ironflow` without `--bun` where Node.js is installed"
    )
    if (noNode !== undefined) return Effect.fail(new NodeVersionError(noNode, { code: "NODE_NEEDED" }))
    const problem = nodeProblem()
    return problem === undefined ? Effect.void : Effect.fail(new CommandError(problem, { code: "USAGE" }))
  }
)

/** Older versions of Node warn that their SQLite is experimental. It is known, and nobody here can do anything about it. */
export const silenceSqliteWarning = (): void => {
  const warn = process.emitWarning
  process.emitWarning = (warning: string | Error, ...rest: Array<never>) => {
    if (!String(warning).includes("SQLite is an experimental feature")) warn.call(process, warning, ...rest)
  }
}

/** How long a command may still take after the second signal, milliseconds. */
const GRACE_MS = 2000

/**
 * The first signal asks the command to end. After the second it has {@link GRACE_MS} left, and after the third nothing.
 * Returns whether there was a second one.
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

/** A command ends before it could say what was asked of it, by a signal or since nothing can be written: its exit code is not that of success. */
export const leaveUnfinished = (): void => {
  unfinished = true
}

export const isUnfinished = (): boolean => unfinished

/**
 * Ends the command in good order, as a signal does, when whoever read its output is gone: `ironflow subscribe ... | head`; and when
 * its output cannot be written, as on a full disk, which is a failure that `onFailure` tells of. Errors that nobody can be told are no
 * reason to end.
 */
export const endWhenNobodyReads = (onFailure: (error: NodeJS.ErrnoException) => void): void => {
  let gone = false
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // each further line fails too, and a second signal would be one to hurry
    if (gone) return
    gone = true
    if (error.code !== "EPIPE") {
      leaveUnfinished()
      // it may be through by now
      process.exitCode = 1
      onFailure(error)
    }
    process.emit("SIGTERM", "SIGTERM")
  })
  process.stderr.on("error", () => {})
}

/** How often the process that started the command is looked for, milliseconds. */
const LOOK_MS = 250

/**
 * Ends the command in good order when `npx` that started it has ended: it takes a SIGTERM for itself, and does not pass it on.
 * Others may start the command and go.
 */
export const endWithNpx = (): void => {
  const parent = process.ppid
  if (process.env["npm_command"] !== "exec" || parent <= 1) return
  const look = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(look)
    process.emit("SIGTERM", "SIGTERM")
  }, LOOK_MS)
  look.unref()
  // told by itself: the signal that ended the other was meant for both
  const stop = () => clearInterval(look)
  process.once("SIGINT", stop).once("SIGTERM", stop)
}
