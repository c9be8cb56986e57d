/** All endpoints of the server, by noun: one that is not listed here does not exist. */
import { endpoints as Access } from "./Access.ts"
import { endpoints as Bulk } from "./Bulk.ts"
import { endpoints as Erase } from "./Erase.ts"
import { endpoints as Config, watches as configWatches } from "./Config.ts"
import { pages, sessions } from "./Console.ts"
import { endpoints as ConsumerGroups } from "./ConsumerGroups.ts"
import { endpoints as Events } from "./Events.ts"
import { endpoints as Functions } from "./Functions.ts"
import { endpoints as Kv, watches as keyWatches } from "./Kv.ts"
import { endpoints as ProjectionOwners } from "./ProjectionOwners.ts"
import { endpoints as ProjectionService } from "./ProjectionService.ts"
import { endpoints as Projections } from "./Projections.ts"
import { endpoints as Push } from "./Push.ts"
import type { EndpointSpec } from "./EndpointSpec.ts"
import { endpoints as RunCounts } from "./RunCounts.ts"
import { endpoints as RunForks } from "./RunForks.ts"
import { endpoints as Runs } from "./Runs.ts"
import { endpoints as Secrets } from "./Secrets.ts"
import { descriptions, endpoints as Server, sockets as serverSockets } from "./Server.ts"
import { endpoints as Streams } from "./Streams.ts"
import { endpoints as Subscriptions, sockets as subscriptionSockets } from "./Subscriptions.ts"
import { endpoints as Topics } from "./Topics.ts"
import { endpoints as Workers, sockets as workerSockets, streams as workerStreams } from "./Workers.ts"

/** Endpoints by noun and name. */
export type Nouns = { readonly [noun: string]: { readonly [name: string]: EndpointSpec } }

const callsOfNouns = {
  Events,
  Runs,
  RunCounts,
  RunForks,
  Bulk,
  Erase,
  Functions,
  Workers,
  Push,
  Topics,
  Subscriptions,
  ConsumerGroups,
  Streams,
  Kv,
  Config,
  Projections,
  ProjectionOwners,
  ProjectionService,
  Secrets,
  Access,
  Server
}

/** Calls: each has one request, and one answer or a stream. */
export const calls: Nouns = callsOfNouns

const upgradesOfNouns = {
  Subscriptions: subscriptionSockets,
  Server: serverSockets,
  Workers: workerSockets,
  Kv: keyWatches,
  Config: configWatches
}

/** Requests that become WebSockets. */
export const upgrades: Nouns = upgradesOfNouns

/**
 * Other endpoints: some are for programs that do not know Ironflow, some exist over HTTP/2 only, and some are
 * for browsers.
 */
export const others = { Server: descriptions, Workers: workerStreams, Console: { ...sessions, ...pages } }

type Names<N> = { [Noun in keyof N]: keyof N[Noun] }[keyof N]

/** Endpoints by name alone; names are unique. */
const byName = <N extends Nouns>(nouns: N): { readonly [Name in Names<N>]: EndpointSpec } =>
  Object.assign({}, ...Object.values(nouns))

export const endpoints = byName(callsOfNouns)
export type EndpointName = keyof typeof endpoints

export const sockets = byName(upgradesOfNouns)
export type SocketName = keyof typeof sockets
