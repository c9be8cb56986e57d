/**
 * The functions and environments that the engine knows, for who must decide at once: loaded at the start, and kept up to date
 * by what commits tell. Whoever has written is answered after that, and finds here what it wrote.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { FunctionInfo } from "../../Client/Client.ts"
import { validated } from "../../Checked.ts"
import {
  type FunctionNotFoundError,
  LimitExceededError,
  type StoreError,
  type ValidationError
} from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import type { FunctionChange } from "../Store/Changes.ts"
import * as ReadAgain from "../Store/ReadAgain.ts"
import { Store } from "../Store/Store.ts"
import { SystemEvents } from "../SystemEvents/SystemEvents.ts"
import { checkRegistrations } from "./FunctionConfigs.ts"
import * as FunctionRows from "./FunctionRows.ts"

export interface FunctionsService {
  /**
   * Adds functions or replaces their configuration, and waits for those who follow. Fails with `ValidationError` when one is not
   * acceptable.
   */
  readonly register: (
    environment: string,
    functions: ReadonlyArray<FunctionRegistration>
  ) => Effect.Effect<void, ValidationError | StoreError>
  /**
   * Stores the functions of a program that was started at `startedAt`, which have been checked, and waits for nobody. What a program
   * that was started later has registered stands, and so does the latest version of a function that pins runs, where it is among `live`;
   * returns the ids of those.
   */
  readonly put: (
    environment: string,
    functions: ReadonlyArray<FunctionRegistration>,
    startedAt: number | undefined,
    live?: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Throws `ValidationError` for functions that are not acceptable, or would be too many, or too large, in their environment. */
  readonly check: (environment: string, functions: ReadonlyArray<FunctionRegistration>) => void
  /** Does what those do who follow. */
  readonly followed: Effect.Effect<void, ValidationError | StoreError>
  /** Has whoever registers functions wait until `follower` has ended; returns the way to stop that. */
  readonly follow: (follower: Effect.Effect<void, ValidationError | StoreError>) => () => void
  /** Nothing starts the function from now on, until it is registered again; its runs stay as they are. */
  readonly delete: (
    environment: string,
    functionId: string
  ) => Effect.Effect<void, FunctionNotFoundError | StoreError>
  /** A function as it was last registered, also one that was deleted since. */
  readonly find: (environment: string, functionId: string) => FunctionRegistration | undefined
  /** Functions that are pushed to an endpoint, of every environment. */
  readonly pushed: () => ReadonlyArray<FunctionChange>
  /** The functions of an environment, in the order in which they were first registered. */
  readonly list: (environment: string) => Effect.Effect<Array<FunctionInfo>, StoreError>
  /** `undefined` when there is none, or none any more. */
  readonly get: (
    environment: string,
    functionId: string
  ) => Effect.Effect<FunctionInfo | undefined, StoreError>
  readonly count: (environment: string) => number
  /** Throws `LimitExceededError` when these, registered now, would be more, or larger, than those of an environment may be. */
  readonly checkRoom: (environment: string, functions: ReadonlyArray<FunctionRegistration>) => void
  /** Throws `LimitExceededError` when there is no such environment, and no room for another. */
  readonly checkEnvironment: (environment: string) => void
}

export class Functions extends Context.Service<Functions, FunctionsService>()(
  "@ironflow/node/Engine/Functions"
) {}

class Known {
  readonly #environments = new Set<string>()
  readonly #functions = new Map<string, Map<string, FunctionChange>>()
  /** Characters of all that is registered in an environment. */
  readonly #lengths = new Map<string, number>()

  addEnvironment(environment: string): void {
    this.#environments.add(environment)
  }

  put(fn: FunctionChange): void {
    const { environment, registration } = fn
    let functions = this.#functions.get(environment)
    if (functions === undefined) this.#functions.set(environment, (functions = new Map()))
    const before = functions.get(registration.id)?.registration
    const length = (this.#lengths.get(environment) ?? 0) + lengthOf(registration) - lengthOf(before)
    this.#lengths.set(environment, length)
    functions.set(registration.id, fn)
  }

  get(environment: string, id: string): FunctionChange | undefined {
    return this.#functions.get(environment)?.get(id)
  }

  list(environment: string): ReadonlyArray<FunctionChange> {
    return [...(this.#functions.get(environment)?.values() ?? [])].filter(isThere)
  }

  pushed(): ReadonlyArray<FunctionChange> {
    return [...this.#functions.values()].flatMap((functions) =>
      [...functions.values()].filter((fn) => isThere(fn) && isPushed(fn.registration))
    )
  }

  /** What is there stays, and may be registered again as it is. */
  checkRoom(environment: string, registrations: ReadonlyArray<FunctionRegistration>): void {
    const functions = this.#functions.get(environment)
    const isNew = registrations.filter(({ id }) => functions?.has(id) !== true)
    const count = (functions?.size ?? 0) + isNew.length
    const what = `of environment "${environment}"`
    if (isNew.length > 0 && count > Limits.functionsOfEnvironment) {
      throw new LimitExceededError(
        `The list of functions ${what} (delete those that are gone from the code)`,
        count,
        Limits.functionsOfEnvironment,
        "functions"
      )
    }
    const before = this.#lengths.get(environment) ?? 0
    let after = before
    for (const registration of registrations) {
      after += lengthOf(registration) - lengthOf(functions?.get(registration.id)?.registration)
    }
    if (after > before && after > Limits.functionsOfEnvironmentBytes) {
      throw new LimitExceededError(
        `The registration of all functions ${what}`,
        after,
        Limits.functionsOfEnvironmentBytes,
        "characters"
      )
    }
  }

  checkEnvironment(name: string): void {
    if (this.#environments.has(name) || this.#environments.size < Limits.environments) return
    throw new LimitExceededError(
      `The list of environments with "${name.slice(0, 64)}" (use one that is there)`,
      this.#environments.size + 1,
      Limits.environments,
      "environments"
    )
  }
}

const lengthOf = (registration: FunctionRegistration | undefined): number =>
  registration === undefined ? 0 : JSON.stringify(registration).length

const isThere = ({ deleted }: FunctionChange): boolean => deleted !== true

/** Whether the engine calls an endpoint for the function's turns. */
const isPushed = ({ endpointUrl, mode }: FunctionRegistration): boolean =>
  mode === "push" && endpointUrl !== undefined

/** What the store knows, kept up to date for the lifetime of the scope. */
const make: Effect.Effect<FunctionsService, StoreError, Store | SystemEvents | Scope.Scope> = Effect.gen(
  function* () {
    const store = yield* Store
    const system = yield* SystemEvents
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const followers = new Set<Effect.Effect<void, ValidationError | StoreError>>()
    const followed = Effect.suspend(() => Effect.all([...followers], { discard: true }))
    const known = new Known()
    const learn = ({ environments, functions }: FunctionRows.Registered): void => {
      for (const environment of environments) known.addEnvironment(environment)
      // that it is new is no part of it
      for (const { changed: _, ...fn } of functions) known.put(fn)
    }
    // what is told while all is read may be newer than what is found
    let early: Array<FunctionRows.Registered> | undefined = []
    const again = yield* ReadAgain.make(
      "which functions there are",
      store.read(FunctionRows.readFunctions()),
      (found) => {
        learn(found)
        // endpoints that were registered elsewhere are called from here, too
        runFork(
          Effect.catch(followed, (error) =>
            Effect.logWarning("Not all that follows from functions of other engines could be done", error)
          )
        )
      }
    )
    const stop = store.onCommit((changes) => {
      if (early === undefined) learn(changes)
      else early.push(changes)
      if (changes.functions.length > 0) again.changed()
      if (changes.look.has("functions")) again.look()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    learn(yield* store.read(FunctionRows.readFunctions()))
    for (const changes of early) learn(changes)
    early = undefined

    const check: FunctionsService["check"] = (environment, registrations) => {
      checkRegistrations(registrations)
      known.checkRoom(environment, registrations)
    }
    const put: FunctionsService["put"] = (environment, registrations, startedAt, live) =>
      Effect.tap(
        store.write(FunctionRows.registerFunctions(environment, registrations, startedAt, live)),
        () =>
          Effect.sync(() => {
            for (const { id, name } of registrations) {
              system.announce(
                environment,
                `system.function.${id}.registered`,
                () => ({ id, name }),
                undefined,
                {
                  action: "function:read",
                  resource: `function:${id}`
                }
              )
            }
          })
      )
    return Functions.of({
      register: (environment, registrations) =>
        Effect.gen(function* () {
          yield* validated(() => check(environment, registrations))
          yield* put(environment, registrations, undefined)
          yield* followed
        }),
      put,
      check,
      checkRoom: (environment, registrations) => known.checkRoom(environment, registrations),
      followed,
      follow: (follower) => {
        followers.add(follower)
        return () => void followers.delete(follower)
      },
      delete: (environment, functionId) => store.write(FunctionRows.deleteFunction(environment, functionId)),
      find: (environment, functionId) => known.get(environment, functionId)?.registration,
      pushed: () => known.pushed(),
      list: (environment) => FunctionRows.listFunctions(store, environment),
      get: (environment, functionId) => store.read(FunctionRows.getFunction(environment, functionId)),
      count: (environment) => known.list(environment).length,
      checkEnvironment: (environment) => known.checkEnvironment(environment)
    })
  }
)

/** The functions of the store in context. */
export const layer: Layer.Layer<Functions, StoreError, Store | SystemEvents> = Layer.effect(Functions, make)
