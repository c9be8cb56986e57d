/**
 * A push endpoint, which acts as a worker. Each turn is sent to the endpoint in a separate request. While the endpoint cannot be
 * reached, it gets no turns.
 */
import * as Effect from "effect/Effect"
import type { StoreError, ValidationError } from "../../Errors.ts"
import type { FunctionRegistration, Notice } from "../../Protocol/Worker.ts"
import type { RemoteSession } from "../Workers/RemoteSession.ts"
import type { WorkersService } from "../Workers/Workers.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { Availability, type AvailabilityOptions } from "./Availability.ts"
import { MissingFunctions } from "./MissingFunctions.ts"
import { LEASE_MS, PushTurnRequests, type TurnRequestsOptions } from "./PushTurnRequests.ts"

export interface EndpointOptions extends TurnRequestsOptions {
  readonly workerId: string
  readonly connect: WorkersService["connectEndpoint"]
  readonly isProbedByOther: AvailabilityOptions["isProbedByOther"]
}

export class Endpoint {
  readonly url: string
  readonly environment: string
  readonly #options: EndpointOptions
  readonly #availability: Availability
  readonly #missing: MissingFunctions
  readonly #turns: PushTurnRequests
  #session: RemoteSession | undefined
  #servedVersions = ""
  #hasLeft = false

  constructor(options: EndpointOptions) {
    this.#options = options
    this.url = options.url
    this.environment = options.environment
    const { clock, environment, fork, inputBudget, isProbedByOther, settings, url } = options
    this.#availability = new Availability({
      url,
      environment,
      settings,
      inputBudget,
      clock,
      fork,
      isProbedByOther,
      onChange: (isReachable, whyNot) => this.#session?.setReachable(isReachable, whyNot)
    })
    this.#missing = new MissingFunctions({
      url,
      fork,
      describe: this.#availability.describe,
      onChange: (functionId, problem) => this.#session?.setFunctionProblem(functionId, problem)
    })
    this.#turns = new PushTurnRequests(options, {
      availability: this.#availability,
      missing: this.#missing,
      session: () => this.#session,
      hasLeft: () => this.#hasLeft,
      onOver: Effect.suspend(() => (this.#hasLeft && this.#turns.turnCount === 0 ? this.close : Effect.void))
    })
  }

  /** Why nothing is sent to the endpoint now; `undefined` when it is available. */
  get problem(): string | undefined {
    return this.#availability.problem
  }

  /** The registered functions that the app does not have. */
  get missing(): ReadonlyArray<string> {
    return [...this.#missing.problems.keys()]
  }

  /** Notes which functions the app has, as it has described them, and which registered functions it lacks. */
  described(functionIds: ReadonlyArray<string>, missing: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.andThen(this.#missing.has(functionIds), this.#missing.lacks(missing))
  }

  /** Requests the endpoint's description. */
  get describe(): Availability["describe"] {
    return this.#availability.describe
  }

  /** Notes that the endpoint has just answered. `turns`: whether it runs whole turns; `undefined` when that is not known yet. */
  noteAnswer(turns: boolean | undefined): void {
    this.#availability.noteAnswer(turns)
  }

  /** Accepts runs of these functions from now on. Active turns go on. */
  serve(functions: ReadonlyArray<FunctionRegistration>): Effect.Effect<void, ValidationError | StoreError> {
    const versions = JSON.stringify(functions.map((fn) => [fn.id, fn.codeHash, codeVersionOf(fn)]))
    if (versions === this.#servedVersions) return Effect.void
    const { connect, environment, settings, url, workerId } = this.#options
    if (functions.some(({ endpointTurns }) => endpointTurns === true)) this.#availability.noteRunsTurns()
    return Effect.gen({ self: this }, function* () {
      this.#session?.detach()
      const session = yield* connect(
        {
          workerId,
          environment,
          hostname: new URL(url).host,
          functions,
          maxConcurrentJobs: settings.maxConcurrent,
          labels: {},
          version: { sdk: "push", runtime: url },
          // 0 is earlier than the start of any program, so this registration, which repeats what is stored, replaces nothing
          // newer
          startedAt: 0,
          // endpoints that do not understand pauses are told of no pause, see `update` in `Endpoints.ts`
          pauses: true
        },
        {
          onJob: (job) => this.#turns.start(job),
          onNotice: (notice) => this.#turns.addNotice(notice),
          running: () => this.#turns.running
        },
        { transport: "push", leaseMs: LEASE_MS }
      )
      this.#session = session
      this.#servedVersions = versions
      this.#hasLeft = false
      session.setReachable(this.#availability.problem === undefined, this.#availability.whyNot)
      this.#missing.keepOnly(new Set(functions.map(({ id }) => id)))
      for (const [functionId, problem] of this.#missing.problems)
        session.setFunctionProblem(functionId, problem)
      // turns that another engine process sent are not kept: nothing here could receive their answers
      yield* session.adopt(this.#turns.jobIds)
      session.makeRoom(settings.maxConcurrent - this.#turns.turnCount)
      this.#availability.start()
    })
  }

  /** Whether the endpoint gets runs now. */
  get isServing(): boolean {
    return this.#session !== undefined && !this.#hasLeft
  }

  /** Whether a request is open. */
  get isBusy(): boolean {
    return this.#turns.turnCount > 0
  }

  /** Stops giving runs to the endpoint. Its active runs go to other workers once the handler has dropped them. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#turns.turnCount === 0) return this.close
    this.#availability.stop()
    this.#missing.stop()
    this.#hasLeft = true
    this.#servedVersions = ""
    this.#session?.detach()
    for (const jobId of this.#turns.jobIds)
      this.#turns.addNotice({ _tag: "LeaseLost", jobId, reason: "the endpoint was removed" })
    return Effect.void
  })

  /** Aborts the active turns, and stops giving runs to the endpoint. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#availability.stop()
    this.#missing.stop()
    this.#servedVersions = ""
    this.#turns.abortAll()
    const session = this.#session
    this.#session = undefined
    if (session === undefined) return Effect.void
    return Effect.catch(session.close(false), (error) =>
      Effect.logWarning(
        `The runs of endpoint ${this.url} could not be released: no other worker gets them until their leases expire`,
        error
      )
    )
  })

  /** Whether the request for the turn of this job is open. */
  has(jobId: string): boolean {
    return this.#turns.has(jobId)
  }

  /** Takes the handler's report of which steps run in a turn. */
  updateRunningSteps(jobId: string, running: unknown): void {
    this.#turns.updateRunningSteps(jobId, running)
  }

  /** The notices for an active turn. When there are none, waits at most `waitMs` for one. */
  notices(jobId: string, waitMs: number): Effect.Effect<ReadonlyArray<Notice>> {
    return this.#turns.notices(jobId, waitMs)
  }
}
