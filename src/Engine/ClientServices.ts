/** The services of a client for the engine in the same process. */
import type { Raw } from "../Client/NarrowErrors.ts"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import type { PushEndpointsApi } from "../Client/PushEndpoints.ts"
import { checkedServices } from "../Client/CheckedServices.ts"
import type { ProjectionsService } from "../Client/Projections.ts"
import { withUpdates } from "../Client/ProjectionUpdates.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions } from "../Client/Streams.ts"
import { make as makeSubscriptions } from "../Client/Subscriptions.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import { restoreErrors } from "../ResultEncoding.ts"
import type { EngineError } from "../Errors.ts"
import type { ManagementService } from "./Access/Management.ts"
import type { Config } from "./Config/Config.ts"
import type { KvService } from "./Kv/Kv.ts"
import type { ProjectionsService as EngineProjections } from "./Projections/Projections.ts"
import type { ConsumerGroups } from "./PubSub/ConsumerGroups.ts"
import type { SubscriptionsService } from "./PubSub/Subscriptions.ts"
import type { PushService } from "./Push/Push.ts"
import type { SecretsService } from "./Secrets/Secrets.ts"
import type { StreamsService } from "./Streams/Streams.ts"
import * as SecretsClient from "./Secrets/SecretsClient.ts"
import { makeWirePair } from "./PubSub/MemoryWire.ts"

/** What a client needs from the engine. */
interface Services {
  readonly client: (environment: string) => Raw<ClientApi<EffectKind>, EngineError>
  readonly streams: StreamsService
  readonly kv: KvService
  readonly config: Config["Service"]
  readonly projections: EngineProjections
  readonly push: PushService
  readonly subscriptions: SubscriptionsService
  readonly consumerGroups: ConsumerGroups["Service"]
  readonly management: ManagementService
  readonly secrets: SecretsService
}

/** The services for one environment. */
export const servicesIn = (
  engine: Services,
  environment: string,
  options: ReadingOptions = {}
): Context.Context<ClientServices> => {
  const { apiKeys, orgs, policies, roles } = engine.management.in(environment)
  return checkedServices({
    client: clientIn(engine, environment),
    streams: engine.streams.in(environment, options),
    kv: engine.kv.in(environment),
    config: engine.config.in(environment),
    projections: projectionsIn(engine, environment),
    pushEndpoints: pushEndpointsIn(engine, environment),
    subscriptions: makeSubscriptions({ wire: () => wireTo(engine, environment) }),
    consumerGroups: engine.consumerGroups.in(environment),
    apiKeys,
    orgs,
    policies,
    roles,
    secrets: SecretsClient.make(engine.secrets.in(environment))
  })
}

/** The engine's client, with errors in the outputs of runs and steps restored. A remote client restores them itself. */
export const clientIn = (engine: Services, environment: string): Raw<ClientApi<EffectKind>, EngineError> => {
  const api = engine.client(environment)
  return {
    ...api,
    emitSync: (...args) => Effect.map(api.emitSync(...args), restoreErrors),
    getRun: (...args) => Effect.map(api.getRun(...args), restoreErrors),
    listRuns: (...args) =>
      Effect.map(api.listRuns(...args), (page) => ({ ...page, runs: page.runs.map(restoreErrors) })),
    getRunSteps: (...args) => Effect.map(api.getRunSteps(...args), (steps) => steps.map(restoreErrors)),
    waitForRun: (...args) => Effect.map(api.waitForRun(...args), restoreErrors),
    cancelRun: (...args) => Effect.map(api.cancelRun(...args), restoreErrors),
    retryRun: (...args) => Effect.map(api.retryRun(...args), restoreErrors),
    resumeRun: (...args) => Effect.map(api.resumeRun(...args), restoreErrors),
    pauseRun: (...args) => Effect.map(api.pauseRun(...args), restoreErrors),
    forkRun: (...args) => Effect.map(api.forkRun(...args), restoreErrors),
    moveRun: (...args) => Effect.map(api.moveRun(...args), restoreErrors),
    runFunction: (...args) => Effect.map(api.runFunction(...args), restoreErrors)
  }
}

const projectionsIn = (engine: Services, environment: string): Raw<ProjectionsService> =>
  withUpdates(
    engine.projections.client(environment),
    { wire: () => wireTo(engine, environment) },
    engine.projections.changes(environment)
  )

/** Connects a client in the same process to the subscriptions of the engine. Returns the client's end of the connection. */
export const wireTo = (engine: Services, environment: string): Wire => {
  const [clientEnd, engineEnd] = makeWirePair()
  engine.subscriptions.connect(environment, engineEnd)
  return clientEnd
}

const pushEndpointsIn = ({ push }: Services, environment: string): Raw<PushEndpointsApi<EffectKind>> => ({
  register: (url) =>
    Effect.map(push.register(environment, url), ({ functions }) => functions.map(({ id }) => id)),
  list: () => Effect.sync(() => push.list(environment)),
  remove: (url) => push.remove(environment, url)
})
