/** The client's methods in the engine's process, one module for each area. */
import * as Effect from "effect/Effect"
import type { ClientApi, EffectKind, LiveVersion } from "../Client/Client.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "../Client/NarrowErrors.ts"
import { type EngineError, FunctionNotFoundError, InvalidStateError } from "../Errors.ts"
import * as Limits from "../Limits.ts"
import { capabilities } from "./Capabilities.ts"
import { LoggedOperations } from "./Access/LoggedOperations.ts"
import { Bulk } from "./Bulk/Bulk.ts"
import { Events } from "./Events/Events.ts"
import { countPinned, functionHistory } from "./Functions/FunctionHistory.ts"
import { Functions } from "./Functions/Functions.ts"
import { yieldFirst } from "./Yielding.ts"
import { Topics } from "./PubSub/Topics.ts"
import { isEndpointId } from "./Runs/EngineWorkers.ts"
import type { LiveWorker } from "./Runs/Explain.ts"
import { LiveWorkers } from "./Runs/LiveWorkers.ts"
import { Runs } from "./Runs/Runs.ts"
import { Store } from "./Store/Store.ts"
import { Workers } from "./Workers/Workers.ts"

/** The latest code version of a function, and its other versions that have unfinished runs (`pinned`) or connected workers. */
const versionsOf = (
  functionId: string,
  {
    latest,
    pinned
  }: {
    readonly latest: string
    readonly pinned: ReadonlyArray<Omit<LiveVersion, "functionId" | "isLatest" | "workerIds">>
  },
  workers: ReadonlyArray<LiveWorker>
): ReadonlyArray<LiveVersion> => {
  const workerVersions = workers.flatMap(({ codeVersions }) => codeVersions.get(functionId) ?? [])
  const versions = new Set([latest, ...pinned.map(({ codeVersion }) => codeVersion), ...workerVersions])
  return [...versions].map((codeVersion) => ({
    functionId,
    codeVersion,
    isLatest: codeVersion === latest,
    liveRuns: 0,
    ...pinned.find((one) => one.codeVersion === codeVersion),
    workerIds: workers
      .filter(({ codeVersions }) => codeVersions.get(functionId) === codeVersion)
      .map(({ id }) => id)
  }))
}

type EngineClient = Raw<ClientApi<EffectKind>, EngineError>

/** Makes the client of each environment. */
export const make = Effect.gen(function* () {
  const bulk = yield* Bulk
  const store = yield* Store
  const events = yield* Events
  const functions = yield* Functions
  const liveWorkers = yield* LiveWorkers
  const runs = yield* Runs
  const topics = yield* Topics
  const workers = yield* Workers
  const operations = yield* LoggedOperations

  /** The code versions of one function, or of all functions, each with its number of runs and its connected workers. */
  const liveVersions = (environment: string, id: string | undefined) =>
    Effect.gen(function* () {
      const versions: Array<LiveVersion> = []
      const workers = liveWorkers.workers(environment)
      const ids = id === undefined ? (yield* functions.list(environment)).map((fn) => fn.id) : [id]
      for (const functionId of ids) {
        const pinned = yield* yieldFirst(store.read(countPinned(environment, functionId)))
        if (pinned === undefined) return yield* new FunctionNotFoundError(functionId)
        versions.push(...versionsOf(functionId, pinned, workers))
      }
      return versions
    })

  const clientIn = (environment: string): EngineClient => ({
    ...events.in(environment),
    ...runs.in(environment),
    ...bulk.in(environment),
    ...topics.in(environment),
    ...operations.in(environment),
    listFunctions: () => yieldFirst(functions.list(environment)),
    deleteFunction: (functionId) =>
      Effect.flatMap(
        validated(() => Limits.checkName("function id", functionId)),
        (id): Effect.Effect<void, EngineError> => {
          const holder = liveWorkers
            .workers(environment)
            .find(
              ({ functionIds, functionProblems }) => functionIds.has(id) && functionProblems?.has(id) !== true
            )
          return holder === undefined
            ? functions.delete(environment, id)
            : Effect.fail(
                new InvalidStateError(
                  isEndpointId(holder.id)
                    ? `Function "${id}" cannot be deleted while a push endpoint has the function. Find the URL of the endpoint with \`ironflow functions endpoints\`, and unregister the endpoint first: \`ironflow functions unregister URL\``
                    : `Function "${id}" cannot be deleted while worker ${holder.id} has the function: the worker would register it again. Stop the worker first`
                )
              )
        }
      ),
    functionHistory: (functionId) =>
      Effect.flatMap(
        validated(() => Limits.checkName("function id", functionId)),
        (id) => yieldFirst(store.read(functionHistory(environment, id)))
      ),
    liveVersions: (functionId) =>
      Effect.flatMap(
        validated(() => (functionId === undefined ? undefined : Limits.checkName("function id", functionId))),
        (id) => liveVersions(environment, id)
      ),
    listWorkers: () => yieldFirst(Effect.map(workers.list(environment), (all) => [...all])),
    getCapabilities: () => yieldFirst(Effect.succeed(capabilities)),
    health: () => Effect.map(yieldFirst(Effect.void), () => store.health().status)
  })

  let last: { readonly environment: string; readonly client: EngineClient } | undefined
  return (environment: string): EngineClient => {
    // keeps the last client, because most calls are for the same environment
    if (last?.environment !== environment) last = { environment, client: clientIn(environment) }
    return last.client
  }
})
