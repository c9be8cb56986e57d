/** Runs the `ironflow` command in this process. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import { CommandError } from "./CommandError.ts"
import { commands } from "./Commands.ts"
import { failureOf, report } from "./Failure.ts"
import {
  checkNode,
  endWhenNobodyReads,
  endWithNpx,
  forceOnSecondSignal,
  isUnfinished,
  silenceSqliteWarning
} from "./Process.ts"
import { levelFromEnvironment } from "../Logger.ts"
import { SDK_VERSION } from "../Worker/Version.ts"

silenceSqliteWarning()
const forced = forceOnSecondSignal()
endWhenNobodyReads((cause) => {
  const error = new CommandError(`Standard output cannot be written: ${cause.message}`, {
    code: "STDOUT_UNWRITABLE",
    cause
  })
  Effect.runSync(report(Cause.fail(error), process.argv.includes("--json")))
})
endWithNpx()
// an invalid level is reported first
levelFromEnvironment()

const main = Command.run(commands, { version: SDK_VERSION })

checkNode.pipe(
  Effect.andThen(main),
  Effect.tapCause((cause) => report(cause, process.argv.includes("--json"))),
  Effect.provideService(CliOutput.Presenter, {
    // usage errors take one line; the help must be requested
    present: (event) =>
      event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event)
  }),
  Effect.provideService(
    CliConfig.CliConfig,
    CliConfig.make({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })
  ),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, done) => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause))
        return done(failureOf(exit.cause)?.exitCode ?? 0)
      done(isUnfinished() || (Exit.isFailure(exit) && forced()) ? 1 : 0)
    }
  })
)
