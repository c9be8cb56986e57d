/** Another process that has a database open, for tests that kill it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { programArguments } from "../../Programs.ts"

export interface Spawned {
  readonly child: ChildProcess
  /** The next line that it prints. Fails when the process has ended. */
  readonly line: Effect.Effect<string>
  /** Kills it. Returns the lines that were not yet taken. */
  readonly kill: Effect.Effect<ReadonlyArray<string>>
}

/** Starts a process for a task of `files/Engine.ts`. */
export const engineProcess = (
  filename: string,
  task: string,
  /** The largest size of its files, in blocks of 512 or 1024 bytes: a write past it fails as on a full disk. */
  mostBlocks: number | "unlimited" = "unlimited"
): Effect.Effect<Spawned, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          "sh",
          [
            "-c",
            `ulimit -f ${mostBlocks}; exec "$0" "$@"`,
            process.execPath,
            ...programArguments("Engine/Store/files/Engine.ts"),
            filename,
            task
          ],
          { stdio: ["ignore", "pipe", "inherit"] }
        )
      ),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    )
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
    const line = Effect.promise(async () => {
      const next = await lines.next()
      if (next.done === true) throw new Error("the process has ended")
      return next.value
    })
    const kill = Effect.promise(async () => {
      const closed = once(child, "close")
      child.kill("SIGKILL")
      await closed
      const rest: Array<string> = []
      for (let next = await lines.next(); next.done !== true; next = await lines.next()) rest.push(next.value)
      return rest
    })
    return { child, line, kill }
  })
