/** The `ironflow` command with all subcommands. */
import * as Command from "effect/cli/Command"
import { apikeys } from "./ApiKeys.ts"
import { backup, restore } from "./Backup.ts"
import { bulk } from "./Bulk.ts"
import { config } from "./Config.ts"
import { migrate } from "./Database.ts"
import { dev } from "./Dev.ts"
import { doctor } from "./Doctor.ts"
import { emit } from "./Emit.ts"
import { erase } from "./Erase.ts"
import { events } from "./Events.ts"
import { functions } from "./Functions.ts"
import { groups } from "./Groups.ts"
import { ironflow } from "./Ironflow.ts"
import { kv } from "./Kv.ts"
import { orgs } from "./Orgs.ts"
import { policies } from "./Policies.ts"
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

export const commands = ironflow.pipe(
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
  ])
)
