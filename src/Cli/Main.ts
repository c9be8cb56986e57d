/** The `ironflow` command, with all of its nouns. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import { apikeys } from "./ApiKeys.ts"
import { backup, restore } from "./Backup.ts"
import { bulk } from "./Bulk.ts"
import { erase } from "./Erase.ts"
import { config } from "./Config.ts"
import { migrate } from "./Database.ts"
import { dev } from "./Dev.ts"
import { doctor } from "./Doctor.ts"
import { emit } from "./Emit.ts"
import { events } from "./Events.ts"
import { failureOf, report } from "./Failure.ts"
import { functions } from "./Functions.ts"
import { groups } from "./Groups.ts"
import { ironflow } from "./Ironflow.ts"
import { kv } from "./Kv.ts"
import { orgs } from "./Orgs.ts"
import { policies } from "./Policies.ts"
import {
  checkNode,
  endWhenNobodyReads,
  endWithNpx,
  forceOnSecondSignal,
  isUnfinished,
  silenceSqliteWarning
} from "./Process.ts"
import { projections } from "./Projections.ts"
import { roles } from "./Roles.ts"
import { runs } from "./Runs.ts"
import { secrets } from "./Secrets.ts"
import { serve } from "./Serve.ts"
import { streams } from "./Streams.ts"
import { subscribe } from "./Subscribe.ts"
import { publish, topics } from "./Topics.ts"
import { exportAll, importAll } from "./Transfer.ts"
import { verify } from "./Verify.ts"
import { worker } from "./Worker.ts"
import { workers } from "./Workers.ts"
import { levelFromEnvironment } from "../Logger.ts"
import { SDK_VERSION } from "../Worker/Version.ts"

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
    migrate,
    worker,
    emit,
    events,
    runs,
    bulk,
    erase,
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
    backup,
    restore,
    exportAll,
    importAll,
    doctor,
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
