/**
 * The functions and environments of the engine, in memory, for checks that cannot wait for a query. They are loaded at the start,
 * and updated by commits. A caller that writes is answered after the update, so it finds here what it has written.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { FunctionInfo } from "../../Client/Client.ts"
import { validated } from "../../CheckAsEffect.ts"
import {
  type FunctionNotFoundError,
  LimitExceededError,
  type StoreError,
  type ValidationError
} from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import type { FunctionChange } from "../Store/Changes.ts"
import * as SharedCopy from "../Store/SharedCopy.ts"
import { Store } from "../Store/Store.ts"
import { SystemEvents } from "../SystemEvents/SystemEvents.ts"
import { checkRegistrations } from "./CheckRegistration.ts"
import * as FunctionRows from "./FunctionRows.ts"

export interface FunctionsService {
  /**
   * Adds functions or replaces their configuration, and waits until the followers have run. Fails with `ValidationError` when a
   * function is invalid.
   */
  readonly register: (
    environment: string,
    functions: ReadonlyArray<FunctionRegistration>
  ) => Effect.Effect<void, ValidationError | StoreError>
  /**
   * Stores the checked functions of a program that started at `startedAt`, without waiting for the followers. A registration of a
   * program that started later stays in place. So does the latest version of a function that pins runs, if another worker has it:
   * `live` are the versions that other workers have. Returns the ids of the functions whose registration stays in place.
   */
  readonly put: (
    environment: string,
    functions: ReadonlyArray<FunctionRegistration>,
    startedAt: number | undefined,
    live?: FunctionRows.LiveCodeVersions
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /**
   * Puts registrations of live workers in force again, without waiting for the followers; see
   * {@link FunctionRows.restoreRegistrations}.
   */
  readonly restore: (
    environment: string,
    restorable: ReadonlyArray<FunctionRows.Restorable>,
    hasWaited: boolean
  ) => Effect.Effect<FunctionRows.Restored, StoreError>
  /** Throws `ValidationError` for functions that are invalid, or that would be too many or too large for their environment. */
  readonly check: (environment: string, functions: ReadonlyArray<FunctionRegistration>) => void
  /** Runs the followers, which {@link follow} adds. To be called after a {@link put}. */
  readonly runFollowers: Effect.Effect<void, ValidationError | StoreError>
  /** Adds a follower: from now on, registrations wait until `follower` has run. Returns a function that removes the follower. */
  readonly follow: (follower: Effect.Effect<void, ValidationError | StoreError>) => () => void
  /** Deletes a function: nothing starts it until it is registered again. Its runs stay as they are. */
  readonly delete: (
    environment: string,
    functionId: string
  ) => Effect.Effect<void, FunctionNotFoundError | StoreError>
  /** A function as it was last registered, even if it was deleted since. */
  readonly find: (environment: string, functionId: string) => FunctionRegistration | undefined
  /** The functions of every environment whose turns are run by endpoints. */
  readonly pushed: () => ReadonlyArray<FunctionChange>
  /** The functions of an environment, in the order in which they were first registered. */
  readonly list: (environment: string) => Effect.Effect<Array<FunctionInfo>, StoreError>
  /** A function as shown in lists; `undefined` when it does not exist or was deleted. */
  readonly get: (
    environment: string,
    functionId: string
  ) => Effect.Effect<FunctionInfo | undefined, StoreError>
  readonly count: (environment: string) => number
  /** Throws `LimitExceededError` when registering these functions would exceed a limit of the environment, in number or size. */
  readonly checkRoom: (environment: string, functions: ReadonlyArray<FunctionRegistration>) => void
  /** Throws `LimitExceededError` when the environment does not exist and there is no room for another one. */
  readonly checkEnvironment: (environment: string) => void
}

export class Functions extends Context.Service<Functions, FunctionsService>()(
  "@ironflow/node/Engine/Functions"
) {}

class KnownFunctions {
  readonly #environments = new Set<string>()
  readonly #functions = new Map<string, Map<string, FunctionChange>>()
  /** Characters of all registrations of an environment. */
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
    return [...(this.#functions.get(environment)?.values() ?? [])].filter(isNotDeleted)
  }

  pushed(): ReadonlyArray<FunctionChange> {
    return [...this.#functions.values()].flatMap((functions) =>
      [...functions.values()].filter((fn) => isNotDeleted(fn) && isPushed(fn.registration))
    )
  }

  /**
   * Throws `LimitExceededError` when there would be too many functions, or too large ones. Deleted functions stay in memory, so
   * they count for the size, but not for the number. Existing functions may always be registered again unchanged.
   */
  checkRoom(environment: string, registrations: ReadonlyArray<FunctionRegistration>): void {
    const functions = this.#functions.get(environment)
    const isNew = (known: FunctionChange | undefined): boolean => known === undefined || !isNotDeleted(known)
    const added = registrations.filter(({ id }) => isNew(functions?.get(id)))
    const count = added.length === 0 ? 0 : this.list(environment).length + added.length
    const what = `of environment "${environment}"`
    if (added.length > 0 && count > Limits.functionsOfEnvironment) {
      throw new LimitExceededError(
        `The list of functions ${what}`,
        count,
        Limits.functionsOfEnvironment,
        "functions",
        { advice: "Delete the functions that are no longer in the code" }
      )
    }
    const lengthBefore = this.#lengths.get(environment) ?? 0
    let lengthAfter = lengthBefore
    for (const registration of registrations) {
      lengthAfter += lengthOf(registration) - lengthOf(functions?.get(registration.id)?.registration)
    }
    if (lengthAfter > lengthBefore && lengthAfter > Limits.functionsOfEnvironmentBytes) {
      throw new LimitExceededError(
        `The total length of the function registrations ${what}`,
        lengthAfter,
        Limits.functionsOfEnvironmentBytes,
        "characters",
        {
          advice:
            "Make the registrations smaller, for example their schemas. Those of deleted functions count too"
        }
      )
    }
  }

  checkEnvironment(name: string): void {
    if (this.#environments.has(name) || this.#environments.size < Limits.environments) return
    throw new LimitExceededError(
      `The number of environments, with the new one "${name.slice(0, 64)}",`,
      this.#environments.size + 1,
      Limits.environments,
      "environments",
      { advice: "Use an existing environment" }
    )
  }
}

const lengthOf = (registration: FunctionRegistration | undefined): number =>
  registration === undefined ? 0 : JSON.stringify(registration).length

const isNotDeleted = ({ deleted }: FunctionChange): boolean => deleted !== true

/** Whether the engine calls an endpoint for the function's turns. */
const isPushed = ({ endpointUrl, mode }: FunctionRegistration): boolean =>
  mode === "push" && endpointUrl !== undefined

/** The functions of the store, kept up to date until the scope ends. */
const make: Effect.Effect<FunctionsService, StoreError, Store | SystemEvents | Scope.Scope> = Effect.gen(
  function* () {
    const store = yield* Store
    const system = yield* SystemEvents
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const followers = new Set<Effect.Effect<void, ValidationError | StoreError>>()
    const runFollowers = Effect.suspend(() => Effect.all([...followers], { discard: true }))
    const known = new KnownFunctions()
    const putAll = ({ environments, functions }: FunctionRows.Registrations): void => {
      for (const environment of environments) known.addEnvironment(environment)
      // `changed` is not part of the registered function
      for (const { changed: _, ...fn } of functions) known.put(fn)
    }
    // changes that arrive during the read may be newer than what the read finds, so they are applied after it
    let changesDuringRead: Array<FunctionRows.Registrations> | undefined = []
    const copy = yield* SharedCopy.make(
      "the registered functions",
      store.read(FunctionRows.readFunctions()),
      (found) => {
        putAll(found)
        // this engine also calls endpoints that were registered at another engine
        runFork(
          Effect.catch(runFollowers, (error) =>
            Effect.logWarning(
              "Push endpoints that other engines registered could not be opened here: the other engines call them, and this one does after the next registration",
              error
            )
          )
        )
      }
    )
    const stop = store.onCommit((changes) => {
      if (changesDuringRead === undefined) putAll(changes)
      else changesDuringRead.push(changes)
      if (changes.functions.length > 0) copy.changed()
      if (changes.stale.has("functions")) copy.refresh()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    putAll(yield* store.read(FunctionRows.readFunctions()))
    for (const changes of changesDuringRead) putAll(changes)
    changesDuringRead = undefined

    const check: FunctionsService["check"] = (environment, registrations) => {
      checkRegistrations(registrations)
      known.checkRoom(environment, registrations)
    }
    const announce = (environment: string, registrations: ReadonlyArray<FunctionRegistration>) =>
      Effect.sync(() => {
        for (const { id, name } of registrations) {
          system.announce(environment, `system.function.${id}.registered`, () => ({ id, name }), undefined, {
            action: "function:read",
            resource: `function:${id}`
          })
        }
      })
    const put: FunctionsService["put"] = (environment, registrations, startedAt, live) =>
      Effect.tap(
        store.write(FunctionRows.registerFunctions(environment, registrations, startedAt, live)),
        () => announce(environment, registrations)
      )
    const restore: FunctionsService["restore"] = (environment, restorable, hasWaited) =>
      Effect.tap(
        store.write(FunctionRows.restoreRegistrations(environment, restorable, hasWaited)),
        ({ restored }) => announce(environment, restored)
      )
    return Functions.of({
      register: (environment, registrations) =>
        Effect.gen(function* () {
          yield* validated(() => check(environment, registrations))
          yield* put(environment, registrations, undefined)
          yield* runFollowers
        }),
      put,
      restore,
      check,
      checkRoom: (environment, registrations) => known.checkRoom(environment, registrations),
      runFollowers,
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
