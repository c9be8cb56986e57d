/**
 * Projections in the engine: the operations of clients (`ProjectionClients.ts`), of owners, which are the workers that have
 * claimed a projection (`ProjectionOwners.ts`), and of legacy runners, which make no claim and so have no token
 * (`TokenlessProjections.ts`). Calls that wait are woken by the commit for which they wait. Only legacy runners poll.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import type { EngineError } from "../../Errors.ts"
import { maxBatchSize } from "../../Projection/Projection.ts"
import type { ProjectionRegistration, ProjectionSaved } from "../../Protocol/ProjectionOwners.ts"
import { NamedSignals } from "../NamedSignals.ts"
import { Store } from "../Store/Store.ts"
import { SystemEvents } from "../SystemEvents/SystemEvents.ts"
import { checkRegistration } from "./CheckRegistration.ts"
import { LOG, makeWaitUntilFound } from "./WaitUntilFound.ts"
import { makeClients, type ProjectionClients } from "./ProjectionClients.ts"
import { makeOwners, type ProjectionOwners } from "./ProjectionOwners.ts"
import type { DeliveredEvents, ProjectionInfo, TokenlessSave } from "../Records/ProjectionRecords.ts"
import { announceStates } from "./StateEvents.ts"
import * as TokenlessProjections from "./TokenlessProjections.ts"

/** All operations on projections: of owners, clients and legacy runners. */
export interface ProjectionsService extends ProjectionOwners, ProjectionClients {
  /** Registers a projection for legacy runners. */
  readonly register: (
    environment: string,
    registration: ProjectionRegistration
  ) => Effect.Effect<ProjectionInfo, EngineError>
  /** The next events for a legacy runner, at most `limit`. */
  readonly handOut: (
    environment: string,
    name: string,
    limit: number
  ) => Effect.Effect<DeliveredEvents, EngineError>
  /** Saves for a legacy runner. */
  readonly saveTokenless: (save: TokenlessSave) => Effect.Effect<ProjectionSaved, EngineError>
}

/** How long a legacy runner counts as alive after a poll, in milliseconds. */
const TOKENLESS_LEASE_MS = 30_000

export class Projections extends Context.Service<Projections, ProjectionsService>()(
  "@ironflow/node/Engine/Projections"
) {}

/** The layer of {@link Projections}. It also announces saved states as system events. */
export const layer: Layer.Layer<Projections, never, Store | SystemEvents> = Layer.effect(
  Projections,
  Effect.gen(function* () {
    const store = yield* Store
    const system = yield* SystemEvents
    const signals = new NamedSignals()
    const stop = store.onCommit(({ logEnd, stale, projections, states }) => {
      if (stale.has("projections")) signals.notifyAll()
      else if (stale.has("log")) signals.notify(LOG)
      if (logEnd > 0) signals.notify(LOG)
      for (const key of projections) signals.notify(key)
      for (const change of states) announceStates(system, change)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    const waitUntilFound = makeWaitUntilFound(signals)
    return {
      ...makeOwners(store, waitUntilFound),
      ...makeClients(store, waitUntilFound),
      register: (environment, registration) =>
        Effect.andThen(
          checked(() => checkRegistration(registration)),
          store.write(TokenlessProjections.register(environment, registration))
        ),
      handOut: (environment, name, limit) =>
        store.write(
          TokenlessProjections.handOut({
            environment,
            name,
            limit: Math.min(Math.max(1, limit), maxBatchSize),
            leaseMs: TOKENLESS_LEASE_MS
          })
        ),
      saveTokenless: (...args) => store.write(TokenlessProjections.saveTokenless(...args))
    }
  })
)
