#!/usr/bin/env node
/** The `ironflow` command. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import { apikeys } from "./Cli/ApiKeys.ts"
import { config } from "./Cli/Config.ts"
import { dev } from "./Cli/Dev.ts"
import { emit } from "./Cli/Emit.ts"
import { failureOf, report } from "./Cli/Failure.ts"
import { functions } from "./Cli/Functions.ts"
import { groups } from "./Cli/Groups.ts"
import { ironflow } from "./Cli/Ironflow.ts"
import { kv } from "./Cli/Kv.ts"
import { orgs } from "./Cli/Orgs.ts"
import { policies } from "./Cli/Policies.ts"
import {
  checkNode,
  endWhenNobodyReads,
  endWithNpx,
  forceOnSecondSignal,
  isUnfinished,
  silenceSqliteWarning
} from "./Cli/Process.ts"
import { projections } from "./Cli/Projections.ts"
import { roles } from "./Cli/Roles.ts"
import { runs } from "./Cli/Runs.ts"
import { secrets } from "./Cli/Secrets.ts"
import { serve } from "./Cli/Serve.ts"
import { streams } from "./Cli/Streams.ts"
import { subscribe } from "./Cli/Subscribe.ts"
import { publish, topics } from "./Cli/Topics.ts"
import { verify } from "./Cli/Verify.ts"
import { worker } from "./Cli/Worker.ts"
import { workers } from "./Cli/Workers.ts"
import { levelFromEnvironment } from "./Logger.ts"
import { SDK_VERSION } from "./Worker/Version.ts"

silenceSqliteWarning()
const forced = forceOnSecondSignal()
endWhenNobodyReads()
endWithNpx()
// a word that is no level is said before anything else
levelFromEnvironment()

const main = ironflow.pipe(
  Command.withSubcommands([
    dev,
    serve,
    worker,
    emit,
    runs,
    functions,
    workers,
    streams,
    projections,
    kv,
    config,
    topics,
    publish,
    subscribe,
    groups,
    secrets,
    apikeys,
    orgs,
    roles,
    policies,
    verify
  ]),
  Command.run({ version: SDK_VERSION })
)

checkNode.pipe(
  Effect.andThen(main),
  Effect.tapCause((cause) => report(cause, process.argv.includes("--json"))),
  Effect.provideService(CliOutput.Presenter, {
    // what was wrong with a command is said in one line; its help is there for the asking
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
      if (Exit.isSuccess(exit)) return done(0)
      if (Cause.hasInterruptsOnly(exit.cause)) return done(forced() || isUnfinished() ? 1 : 0)
      done(failureOf(exit.cause)?.exitCode ?? 0)
    }
  })
)
