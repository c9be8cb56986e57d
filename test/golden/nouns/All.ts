/** All calls by noun, each with its file of transcripts. */
import type { Noun } from "../Noun.ts"
import { apikeys, orgs, policies, roles } from "./Access.ts"
import { bulk } from "./Bulk.ts"
import { events, log } from "./Events.ts"
import { functions } from "./Functions.ts"
import { groups } from "./Groups.ts"
import { owners, projections } from "./Projections.ts"
import { runs } from "./Runs.ts"
import { server } from "./Server.ts"
import { config, kv, secrets } from "./State.ts"
import { streams } from "./Streams.ts"
import { topics } from "./Topics.ts"
import { push, workers } from "./Workers.ts"

export const nouns = {
  apikeys,
  bulk,
  config,
  events,
  functions,
  groups,
  kv,
  log,
  orgs,
  owners,
  policies,
  projections,
  push,
  roles,
  runs,
  secrets,
  server,
  streams,
  topics,
  workers
} satisfies { readonly [name: string]: Noun }
