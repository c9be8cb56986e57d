/** The client's methods against the engine in the same process: each noun has its own. */
import * as Effect from "effect/Effect"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import { checked } from "../Client/HttpCalls.ts"
import type { Raw } from "../Client/Named.ts"
import { type EngineError, InvalidStateError } from "../Errors.ts"
import * as Limits from "../Limits.ts"
import { capabilities } from "./Capabilities.ts"
import { Events } from "./Events/Events.ts"
import { Functions } from "./Functions/Functions.ts"
import { polite } from "./Polite.ts"
import { Topics } from "./PubSub/Topics.ts"
import { LiveWorkers } from "./Runs/LiveWorkers.ts"
import { Runs } from "./Runs/Runs.ts"
import { Store } from "./Store/Store.ts"
import { Workers } from "./Workers/Workers.ts"

type EngineClient = Raw<ClientApi<EffectKind>, EngineError>

/** The client of each environment. */
export const make = Effect.gen(function* () {
  const store = yield* Store
  const events = yield* Events
  const functions = yield* Functions
  const live = yield* LiveWorkers
  const runs = yield* Runs
  const topics = yield* Topics
  const workers = yield* Workers

  const clientIn = (environment: string): EngineClient => ({
    ...events.in(environment),
    ...runs.in(environment),
    ...topics.in(environment),
    listFunctions: () => polite(functions.list(environment)),
    deleteFunction: (functionId) =>
      Effect.flatMap(
        checked(() => Limits.checkName("function id", functionId)),
        (id): Effect.Effect<void, EngineError> => {
          const holder = live.workers(environment).find(({ functionIds }) => functionIds.has(id))
          return holder === undefined
            ? functions.delete(environment, id)
            : Effect.fail(
                new InvalidStateError(
                  `Function "${id}" cannot be deleted: worker ${holder.id} has it, and would register it again. Stop that worker, or unregister that endpoint, first`
                )
              )
        }
      ),
    listWorkers: () => polite(Effect.map(workers.list(environment), (all) => [...all])),
    getCapabilities: () => polite(Effect.succeed(capabilities)),
    health: () => Effect.map(polite(Effect.void), () => store.health().status)
  })

  let last: { readonly environment: string; readonly client: EngineClient } | undefined
  return (environment: string): EngineClient => {
    // most calls are for the same one
    if (last?.environment !== environment) last = { environment, client: clientIn(environment) }
    return last.client
  }
})
