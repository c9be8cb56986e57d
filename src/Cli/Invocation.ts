/** Runs one call of the `ironflow` command. The process around it is the task of `Main.ts`. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import { SDK_VERSION } from "../SdkVersion.ts"
import { commands } from "./Commands.ts"
import { failureOf, report } from "./FailureReport.ts"
import { layerStderr, logChoice } from "./LogOutput.ts"
import { requireNode } from "./Process.ts"

/** Runs the command with the arguments that come after `ironflow`, and reports its failure. */
export const invoke = (args: ReadonlyArray<string>) =>
  requireNode.pipe(
    Effect.andThen(Command.runWith(commands, { version: SDK_VERSION })(args)),
    Effect.tapCause((cause) => report(cause, args.includes("--json"))),
    Effect.provideService(CliOutput.Presenter, {
      // a usage error is reported in one line; the help is only shown on request
      present: (event) =>
        event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event)
    }),
    Effect.provideService(
      CliConfig.CliConfig,
      CliConfig.make({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })
    ),
    // not to standard output, which programs read; commands with flags for logs have a logger of their own
    Effect.provide(layerStderr(logChoice({ logFormat: Option.none(), logLevel: Option.none() }))),
    Effect.provide(NodeServices.layer)
  )

/** The exit code for how the command ended; `undefined` when a signal stopped it. */
export const exitCodeOfEnd = (exit: Exit.Exit<unknown, unknown>): number | undefined => {
  if (Exit.isSuccess(exit)) return 0
  return Cause.hasInterruptsOnly(exit.cause) ? undefined : (failureOf(exit.cause)?.exitCode ?? 0)
}
