/** All endpoints of the server, by noun: an endpoint without a row here does not exist. */
import { rows as Access } from "./Access.ts"
import { rows as Bulk } from "./Bulk.ts"
import { rows as Erase } from "./Erase.ts"
import { rows as Config, watches as configWatches } from "./Config.ts"
import { pages, sessions } from "./Console.ts"
import { rows as ConsumerGroups } from "./ConsumerGroups.ts"
import { rows as Events } from "./Events.ts"
import { rows as Functions } from "./Functions.ts"
import { rows as Kv, watches as keyWatches } from "./Kv.ts"
import { rows as ProjectionOwners } from "./ProjectionOwners.ts"
import { rows as ProjectionService } from "./ProjectionService.ts"
import { rows as Projections } from "./Projections.ts"
import { rows as Push } from "./Push.ts"
import type { Row } from "./Row.ts"
import { rows as RunCounts } from "./RunCounts.ts"
import { rows as RunForks } from "./RunForks.ts"
import { rows as Runs } from "./Runs.ts"
import { rows as Secrets } from "./Secrets.ts"
import { descriptions, rows as Server, sockets as serverSockets } from "./Server.ts"
import { rows as Streams } from "./Streams.ts"
import { rows as Subscriptions, sockets as subscriptionSockets } from "./Subscriptions.ts"
import { rows as Topics } from "./Topics.ts"
import { rows as Workers, sockets as workerSockets, streams as workerStreams } from "./Workers.ts"

/** Rows by noun and name. */
export type Nouns = { readonly [noun: string]: { readonly [name: string]: Row } }

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

/** Other endpoints: for programs that do not know Ironflow, over HTTP/2 only, and for browsers. */
export const others = { Server: descriptions, Workers: workerStreams, Console: { ...sessions, ...pages } }

type Names<N> = { [Noun in keyof N]: keyof N[Noun] }[keyof N]

/** Rows by name alone; names are unique. */
const byName = <N extends Nouns>(nouns: N): { readonly [Name in Names<N>]: Row } =>
  Object.assign({}, ...Object.values(nouns))

export const endpoints = byName(callsOfNouns)
export type EndpointName = keyof typeof endpoints

export const sockets = byName(upgradesOfNouns)
export type SocketName = keyof typeof sockets
