/** Runs the `ironflow` command in this process. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { CommandError } from "./CommandError.ts"
import { report } from "./FailureReport.ts"
import { exitCodeOfEnd, invoke } from "./Invocation.ts"
import {
  endWhenOutputFails,
  endWithNpx,
  forceOnSecondSignal,
  isUnfinished,
  silenceSqliteWarning
} from "./Process.ts"
import { levelFromEnvironment } from "../Logger.ts"

silenceSqliteWarning()
const cameSecondSignal = forceOnSecondSignal()
// this function is not called when the reader of standard output has gone
endWhenOutputFails((cause) => {
  const error = new CommandError(`Standard output cannot be written: ${cause.message}`, {
    code: "STDOUT_UNWRITABLE",
    cause
  })
  Effect.runSync(report(Cause.fail(error), process.argv.includes("--json")))
})
endWithNpx()
// warns of an invalid level before the command runs
levelFromEnvironment()

invoke(process.argv.slice(2)).pipe(
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, done) => {
      const code = exitCodeOfEnd(exit)
      // a failure keeps its exit code, even if a signal came too
      done(code || (isUnfinished() || (code === undefined && cameSecondSignal()) ? 1 : 0))
    }
  })
)
