/** All calls that the server answers, by noun. A call that is not listed here does not exist. */
import { callSpecs as Access } from "./Access.ts"
import { callSpecs as Bulk } from "./Bulk.ts"
import { callSpecs as Erase } from "./Erase.ts"
import { callSpecs as Config, watches as configWatches } from "./Config.ts"
import { pages, sessions } from "./Console.ts"
import { callSpecs as ConsumerGroups } from "./ConsumerGroups.ts"
import { callSpecs as Events } from "./Events.ts"
import { callSpecs as Functions } from "./Functions.ts"
import { callSpecs as Kv, watches as keyWatches } from "./Kv.ts"
import { callSpecs as ProjectionOwners } from "./ProjectionOwners.ts"
import { callSpecs as ProjectionService } from "./ProjectionService.ts"
import { callSpecs as Projections } from "./Projections.ts"
import { callSpecs as Push } from "./Push.ts"
import type { CallSpec } from "./CallSpec.ts"
import { callSpecs as RunCounts } from "./RunCounts.ts"
import { callSpecs as RunForks } from "./RunForks.ts"
import { callSpecs as Runs } from "./Runs.ts"
import { callSpecs as Secrets } from "./Secrets.ts"
import { descriptions, callSpecs as Server, sockets as serverSockets } from "./Server.ts"
import { callSpecs as Streams } from "./Streams.ts"
import { callSpecs as Subscriptions, sockets as subscriptionSockets } from "./Subscriptions.ts"
import { callSpecs as Topics } from "./Topics.ts"
import { callSpecs as Workers, sockets as workerSockets, streams as workerStreams } from "./Workers.ts"

/** Specs of calls by noun and name. */
export type Nouns = { readonly [noun: string]: { readonly [name: string]: CallSpec } }

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
export const callsByNoun: Nouns = callsOfNouns

const upgradesOfNouns = {
  Subscriptions: subscriptionSockets,
  Server: serverSockets,
  Workers: workerSockets,
  Kv: keyWatches,
  Config: configWatches
}

/** Requests that become WebSockets. */
export const upgradesByNoun: Nouns = upgradesOfNouns

/**
 * Other calls: some are for programs that do not know Ironflow, some exist over HTTP/2 only, and some are
 * for browsers.
 */
export const otherCalls = { Server: descriptions, Workers: workerStreams, Console: { ...sessions, ...pages } }

type Names<N> = { [Noun in keyof N]: keyof N[Noun] }[keyof N]

/** Specs by name alone; names are unique. */
const specsByName = <N extends Nouns>(nouns: N): { readonly [Name in Names<N>]: CallSpec } =>
  Object.assign({}, ...Object.values(nouns))

export const callSpecs = specsByName(callsOfNouns)
export type CallName = keyof typeof callSpecs

export const sockets = specsByName(upgradesOfNouns)
export type SocketName = keyof typeof sockets
