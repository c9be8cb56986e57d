/** The push endpoints of an engine. There is one for each environment and URL that the registered functions have. */
import { createHash } from "node:crypto"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import {
  EndpointUnavailableError,
  type EngineError,
  IronflowError,
  isIronflowError,
  type StoreError,
  ValidationError
} from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { ScheduleTimeout } from "../../Execution/Alarm.ts"
import { checkEndpointUrl } from "../../EndpointUrl.ts"
import { checkFunctionCount } from "../../Limits.ts"
import type { TurnUpdate } from "../../Protocol/Push.ts"
import type { FunctionRegistration, Notice, TurnAck } from "../../Protocol/Worker.ts"
import { checkRegistration } from "../Functions/CheckRegistration.ts"
import type { FunctionsService } from "../Functions/Functions.ts"
import type { LiveWorkersService } from "../Runs/LiveWorkers.ts"
import { environmentOfRun } from "../Runs/RunRows.ts"
import { endpointId } from "../Runs/EngineWorkers.ts"
import type { StoreService } from "../Store/Store.ts"
import { InputBudget } from "../InputBudget.ts"
import { Endpoint, type EndpointOptions } from "./Endpoint.ts"
import type { PushSettings } from "./PushSettings.ts"
import * as ExtendLeases from "../Turns/ExtendLeases.ts"
import * as LostLeases from "../Turns/LostLeases.ts"
import * as PendingNotices from "../Turns/PendingNotices.ts"
import type { TurnsService } from "../Turns/Turns.ts"

/** An endpoint as it is shown. */
export interface EndpointInfo {
  readonly url: string
  readonly functionIds: ReadonlyArray<string>
  /** Whether the endpoint gets turns, because its last answer was good. */
  readonly available: boolean
  /** Why the endpoint gets no turns, or which functions its app does not have. */
  readonly problem?: string
}

/** The functions of an endpoint's handler, as the handler describes them. */
export interface Registered {
  readonly functions: ReadonlyArray<FunctionRegistration>
  /** The ids of functions that stay registered for the endpoint, although the handler does not have them. */
  readonly missing: ReadonlyArray<string>
}

/** The answer to an update of a turn; see `TurnUpdated`. */
export interface Updated {
  readonly ack: TurnAck
  readonly notices: ReadonlyArray<Notice>
  readonly unknownRun?: true
}

export interface PushEndpointsOptions {
  readonly store: StoreService
  readonly functions: FunctionsService
  readonly turns: TurnsService
  readonly settings: PushSettings
  readonly clock: Clock.Clock
  readonly after: ScheduleTimeout
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly connect: EndpointOptions["connect"]
  readonly workers: LiveWorkersService["workers"]
}

export class PushEndpoints {
  readonly #options: PushEndpointsOptions
  readonly #endpoints = new Map<string, Endpoint>()
  readonly #inputBudget: InputBudget
  /** Allows one change at a time. */
  readonly #changeLock = Semaphore.makeUnsafe(1)

  constructor(options: PushEndpointsOptions) {
    this.#options = options
    this.#inputBudget = new InputBudget(options.clock, options.after)
  }

  /** Opens the endpoints of the registered functions, and closes endpoints that no longer have functions. */
  readonly sync: Effect.Effect<void, ValidationError | StoreError> = Effect.suspend(() =>
    this.#endpoints.size === 0 && this.#options.functions.pushed().length === 0 ? Effect.void : this.#sync
  )

  readonly #sync: Effect.Effect<void, ValidationError | StoreError> = Effect.suspend(() =>
    Effect.uninterruptible(
      this.#changeLock.withPermits(1)(
        Effect.gen({ self: this }, function* () {
          const wanted = new Map<
            string,
            { environment: string; url: string; functions: Array<FunctionRegistration> }
          >()
          for (const { environment, registration } of this.#options.functions.pushed()) {
            const url = registration.endpointUrl ?? ""
            const key = keyOf(environment, url)
            const endpoint = wanted.get(key)
            if (endpoint === undefined) wanted.set(key, { environment, url, functions: [registration] })
            else endpoint.functions.push(registration)
          }
          for (const [key, endpoint] of this.#endpoints) {
            if (wanted.has(key)) continue
            yield* endpoint.leave
            // a busy endpoint stays, so that it still has its turns if it is registered again
            if (!endpoint.isBusy) this.#endpoints.delete(key)
          }
          for (const [key, { environment, functions, url }] of wanted) {
            let endpoint = this.#endpoints.get(key)
            if (endpoint === undefined) {
              endpoint = this.#endpoint(environment, url)
              this.#endpoints.set(key, endpoint)
            }
            yield* endpoint.serve(functions)
          }
        })
      )
    )
  )

  /** Requests the functions of the handler at the URL, and registers them. From then on, turns of these functions are sent there. */
  register(
    environment: string,
    text: string,
    check: (functions: ReadonlyArray<FunctionRegistration>) => void = () => undefined
  ): Effect.Effect<Registered, EngineError> {
    return Effect.gen({ self: this }, function* () {
      const url = yield* Effect.try({
        try: () => checkEndpointUrl(text, "The URL of the endpoint"),
        catch: (error) => error as ValidationError
      })
      const notRegistered = (problem: string): EngineError =>
        new EndpointUnavailableError(`The endpoint ${url} cannot be registered: ${problem}`, {
          status: 502
        })
      const { doubt, functions, turns } = yield* Effect.mapError(
        this.#endpoint(environment, url).describe,
        (error) =>
          !(error instanceof IronflowError) && error.reason === "refused"
            ? new ValidationError(`The endpoint cannot be registered: ${error.message}`)
            : notRegistered(error.message)
      )
      if (doubt !== undefined) return yield* Effect.fail(notRegistered(doubt))
      if (turns !== true) {
        return yield* Effect.fail(
          new ValidationError(
            `The handler at ${url} does not say which functions it has, so it was not made with this package. ` +
              "Register its functions with the package that it was made with"
          )
        )
      }
      const registrations = yield* Effect.try({
        try: () => {
          checkFunctionCount(functions)
          const registrations = functions.map((fn) => this.#checkDescribed(fn, url))
          check(registrations)
          return registrations
        },
        catch: (error) => {
          // `check` throws only errors of the engine
          if (isIronflowError(error)) return error as EngineError
          throw error
        }
      })
      const key = keyOf(environment, url)
      const endpoint = this.#endpoints.get(key) ?? this.#endpoint(environment, url)
      endpoint.noteAnswer(turns)
      if (registrations.length > 0) this.#endpoints.set(key, endpoint)
      const ids = registrations.map(({ id }) => id)
      const missing = this.#functionsAt(environment, url).filter((id) => !ids.includes(id))
      yield* endpoint.described(ids, missing)
      yield* this.#options.functions.register(environment, registrations)
      return { functions: registrations, missing }
    })
  }

  /** The registration of a function that a handler describes, for the endpoint at the URL. Throws `ValidationError`. */
  #checkDescribed(fn: unknown, url: string): FunctionRegistration {
    if (
      !isObject(fn) ||
      typeof fn.id !== "string" ||
      typeof fn.codeHash !== "string" ||
      !Array.isArray(fn.secrets)
    ) {
      throw new ValidationError(
        `The handler at ${url} describes a function without \`id\`, \`codeHash\` or \`secrets\``
      )
    }
    // `checkRegistration` looks at every field
    return checkRegistration({
      ...(fn as unknown as FunctionRegistration),
      mode: "push",
      endpointUrl: url,
      endpointTurns: true
    })
  }

  /** Removes an endpoint. Its functions stay registered, without an endpoint. Returns whether the endpoint existed. */
  remove(environment: string, text: string): Effect.Effect<boolean, ValidationError | StoreError> {
    const registered = this.#options.functions
    return Effect.suspend(() => {
      const url = URL.parse(text)?.href ?? text
      const functions = registered
        .pushed()
        .filter((fn) => fn.environment === environment && fn.registration.endpointUrl === url)
        .map(({ registration: { endpointTurns: _, endpointUrl: __, ...registration } }) => registration)
      return functions.length === 0
        ? Effect.succeed(false)
        : Effect.as(registered.register(environment, functions), true)
    })
  }

  /** The ids of the functions that are registered for the endpoint. */
  #functionsAt(environment: string, url: string): ReadonlyArray<string> {
    return this.#options.functions
      .pushed()
      .filter((fn) => fn.environment === environment && fn.registration.endpointUrl === url)
      .map(({ registration }) => registration.id)
  }

  list(environment: string): ReadonlyArray<EndpointInfo> {
    return [...this.#endpoints.values()]
      .filter((endpoint) => endpoint.environment === environment && endpoint.isServing)
      .map((endpoint) => {
        const problem = endpoint.problem ?? lacking(endpoint.missing)
        return {
          url: endpoint.url,
          functionIds: this.#functionsAt(environment, endpoint.url),
          available: endpoint.problem === undefined,
          ...(problem === undefined ? {} : { problem })
        }
      })
  }

  /** Handles the reports and requests of a handler during its turn; see `TurnUpdate`. */
  update(
    jobId: string,
    { late, logs, ops, pauses = false, runId, running, waitMs = 0 }: TurnUpdate,
    environment?: string
  ): Effect.Effect<Updated, StoreError> {
    const { turns } = this.#options
    return Effect.gen({ self: this }, function* () {
      if (late !== undefined) yield* turns.noteHandlerWentOn(runId, late.lingerMs, environment)
      const ack: TurnAck =
        ops.length === 0
          ? { _tag: "Accepted", outcomes: [] }
          : ((yield* turns.report(
              [{ jobId, runId, ops, ...(logs === undefined ? {} : { logs }) }],
              environment,
              {
                revokesOnPause: !pauses
              }
            ))[0] ?? {
              _tag: "Accepted",
              outcomes: []
            })
      for (const endpoint of this.#endpoints.values()) {
        if (environment !== undefined && endpoint.environment !== environment) continue
        if (!endpoint.has(jobId)) continue
        // a request for notices also reports which steps run
        if (waitMs > 0) endpoint.updateRunningSteps(jobId, running)
        // a handler reads only the notices that it has asked for; it ignores notices in the answer to a report
        const asksForNotices = waitMs > 0 || (ops.length === 0 && late === undefined)
        const notices = asksForNotices ? yield* endpoint.notices(jobId, waitMs) : []
        return { ack, notices: pauses ? notices : notices.filter(isKnownToAll) }
      }
      const notices = yield* this.#noticesOfOtherEngine(jobId, environment, waitMs)
      const mayBeUnknown = ack._tag === "Refused" || (ops.length === 0 && notices === undefined)
      return {
        ack,
        ...(mayBeUnknown && !(yield* this.#knows(runId, environment)) ? { unknownRun: true } : {}),
        notices: notices?.filter((notice) => pauses || isKnownToAll(notice)) ?? [
          { _tag: "LeaseLost", jobId, reason: "the engine no longer waits for this turn" }
        ]
      }
    })
  }

  /** Whether the database has the run, in this environment if one is given. */
  #knows(runId: string, environment: string | undefined): Effect.Effect<boolean, StoreError> {
    return Effect.map(
      this.#options.store.read(environmentOfRun(runId)),
      (found) => found !== undefined && (environment === undefined || found === environment)
    )
  }

  /**
   * The notices for a turn that was sent by another engine on the same database. Returns when there are some, or after `waitMs`.
   * `undefined` when no engine waits for the answer to the turn.
   */
  #noticesOfOtherEngine(
    jobId: string,
    environment: string | undefined,
    waitMs: number
  ): Effect.Effect<ReadonlyArray<Notice> | undefined, StoreError> {
    const { store } = this.#options
    if (store.node === undefined) return Effect.succeed(undefined)
    const readNotices = Effect.gen(function* () {
      const [jobEnvironment = environment] = yield* store.read(ExtendLeases.environmentsOfJobs([jobId]))
      return jobEnvironment === undefined
        ? undefined
        : yield* store.read(PendingNotices.pendingNoticesOfJob(jobEnvironment, jobId))
    })
    const rounds = Math.ceil(Math.min(waitMs, LONGEST_WAIT_MS) / NOTICES_CHECK_MS)
    return Effect.repeat(readNotices, {
      schedule: Schedule.spaced(NOTICES_CHECK_MS),
      times: rounds,
      until: (notices) => notices === undefined || notices.length > 0
    })
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach([...this.#endpoints.values()], (endpoint) => endpoint.close, { discard: true })
  )

  #endpoint(environment: string, url: string): Endpoint {
    const { clock, connect, fork, functions, settings, store, workers } = this.#options
    const hash = createHash("sha256").update(keyOf(environment, url)).digest("hex")
    const id = endpointId(hash, undefined)
    const { node } = store
    return new Endpoint({
      url,
      environment,
      workerId: endpointId(hash, node),
      // of the engines that find the endpoint unavailable, the oldest one probes it
      isProbedByOther: () =>
        node !== undefined &&
        workers(environment).some(
          (worker) =>
            worker.problem !== undefined &&
            worker.id.startsWith(`${id}-`) &&
            Number(worker.id.slice(id.length + 1)) < node
        ),
      settings,
      clock,
      inputBudget: this.#inputBudget,
      fork,
      connect,
      extendLeases: (...args) => store.write(ExtendLeases.extendLeases(environment, ...args)),
      loseLease: (...args) => store.write(LostLeases.loseLease(environment, ...args)),
      findFunction: functions.find
    })
  }
}

/** How often to check for notices for a turn of another engine, in milliseconds. */
const NOTICES_CHECK_MS = 1000
/** How long to check for such notices, in milliseconds. */
const LONGEST_WAIT_MS = 30_000

const lacking = (functionIds: ReadonlyArray<string>): string | undefined =>
  functionIds.length === 0
    ? undefined
    : `its app does not have ${functionIds.map((id) => `"${id}"`).join(", ")}`

const isKnownToAll = ({ _tag }: Notice): boolean => _tag !== "Paused" && _tag !== "Resumed"

const keyOf = (environment: string, url: string): string => `${environment}\n${url}`
