/** The services of a client, against the engine in the same process. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { Client, type ClientApi, type EffectKind } from "../Client/Client.ts"
import { type PushEndpointsApi, PushEndpoints } from "../Client/PushEndpoints.ts"
import { Config } from "../Client/Config.ts"
import { ConsumerGroups } from "../Client/ConsumerGroups.ts"
import { typedStreams } from "../Client/EntityStreams.ts"
import { Kv } from "../Client/Kv.ts"
import { ApiKeys } from "../Client/ApiKeys.ts"
import { checkedServices } from "../Client/CheckedServices.ts"
import { Orgs } from "../Client/Orgs.ts"
import { Policies } from "../Client/Policies.ts"
import { Roles } from "../Client/Roles.ts"
import { Secrets } from "../Client/Secrets.ts"
import { Projections, type ProjectionsService } from "../Client/Projections.ts"
import { withUpdates } from "../Client/ProjectionUpdates.ts"
import type { ClientServices } from "../Client/Services.ts"
import { type ReadingOptions, Streams } from "../Client/Streams.ts"
import { make as makeSubscriptions, Subscriptions } from "../Client/Subscriptions.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import { withErrors } from "../Result.ts"
import type { EngineService } from "./Engine.ts"
import * as SecretsClient from "./SecretsClient.ts"
import { typedKv } from "../Client/TypedBucket.ts"
import { makeWires } from "./Subscriptions/MemoryWire.ts"

/** The services for one environment. */
export const servicesIn = (
  engine: EngineService,
  environment: string,
  options: ReadingOptions = {}
): Context.Context<ClientServices> => {
  const { apiKeys, orgs, policies, roles } = engine.manageAccess(environment)
  const services = Context.make(Client, clientIn(engine, environment)).pipe(
    Context.add(Streams, typedStreams(engine.streams(environment, options))),
    Context.add(Kv, typedKv(engine.kv(environment))),
    Context.add(Config, engine.config(environment)),
    Context.add(Projections, projectionsIn(engine, environment)),
    Context.add(PushEndpoints, pushEndpointsIn(engine, environment)),
    Context.add(Subscriptions, makeSubscriptions({ wire: () => wireTo(engine, environment) })),
    Context.add(ConsumerGroups, engine.consumerGroups(environment)),
    Context.add(ApiKeys, apiKeys),
    Context.add(Orgs, orgs),
    Context.add(Policies, policies),
    Context.add(Roles, roles),
    Context.add(Secrets, SecretsClient.make(engine.secrets(environment)))
  )
  return checkedServices(services)
}

/** The client of the engine with outputs as their readers see them: over a wire the other end does that. */
export const clientIn = (engine: EngineService, environment: string): ClientApi<EffectKind> => {
  const api = engine.client(environment)
  return {
    ...api,
    emitSync: (...args) => Effect.map(api.emitSync(...args), withErrors),
    getRun: (...args) => Effect.map(api.getRun(...args), withErrors),
    listRuns: (...args) =>
      Effect.map(api.listRuns(...args), (page) => ({ ...page, runs: page.runs.map(withErrors) })),
    getRunSteps: (...args) => Effect.map(api.getRunSteps(...args), (steps) => steps.map(withErrors)),
    waitForRun: (...args) => Effect.map(api.waitForRun(...args), withErrors),
    cancelRun: (...args) => Effect.map(api.cancelRun(...args), withErrors),
    retryRun: (...args) => Effect.map(api.retryRun(...args), withErrors),
    resumeRun: (...args) => Effect.map(api.resumeRun(...args), withErrors),
    pauseRun: (...args) => Effect.map(api.pauseRun(...args), withErrors)
  }
}

const projectionsIn = (engine: EngineService, environment: string): ProjectionsService =>
  withUpdates(
    engine.projections.client(environment),
    { wire: () => wireTo(engine, environment) },
    engine.projections.changes(environment)
  )

/** The client's end of a connection inside the process. */
export const wireTo = (engine: EngineService, environment: string): Wire => {
  const [ours, theirs] = makeWires()
  engine.subscribe(environment, theirs)
  return ours
}

const pushEndpointsIn = ({ push }: EngineService, environment: string): PushEndpointsApi<EffectKind> => ({
  register: (url) =>
    Effect.map(push.register(environment, url), (functions) => functions.map(({ id }) => id)),
  list: () => Effect.sync(() => push.list(environment)),
  remove: (url) => push.remove(environment, url)
})
