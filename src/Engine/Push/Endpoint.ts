/**
 * One push endpoint: a worker of its own kind. What the engine hands to it travels in requests, one for each turn, and
 * while it cannot be reached it is handed nothing.
 *
 * A turn whose request never arrived goes back unharmed. One that was lost after it may have begun counts as a loss of
 * its run, as that of any worker; neither consumes an attempt.
 */
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import {
  EndpointUnavailableError,
  type IronflowError,
  isIronflowError,
  type StoreError,
  type ValidationError
} from "../../Errors.ts"
import { isObject, numberOf, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonShape.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/Endpoints.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import type { DescribeRequest, TurnRequest } from "../../Protocol/Push.ts"
import {
  endsLease,
  endsTurn,
  type FunctionRegistration,
  type Job,
  type Notice,
  type TurnOp,
  type WorkerHandlers,
  type WorkerRegistration
} from "../../Protocol/Worker.ts"
import { sign, SIGNATURE_HEADER } from "../../Serve/Signature.ts"
import { sendAgain } from "../../Worker/Reporter.ts"
import type { RemoteSession } from "../Dispatch.ts"
import { failTooLarge } from "../Http/LegacyJobs.ts"
import { unusable } from "../Http/LegacyWorker.ts"
import { checkReport } from "../Http/TurnReports.ts"
import { encodePushRequest, readPushResponse, untoldToHandlers } from "./ExistingHandlers.ts"
import type { Intake } from "../Intake.ts"
import { post, type PostAnswer, type PostError } from "./Post.ts"
import type { PushSettings } from "./Settings.ts"

/** How long a lease holds without the engine's own watch; it only runs out when the engine is gone. */
const LEASE_MS = 30_000
/** How often the leases of turns in flight are extended. */
const TICK_MS = LEASE_MS / 3
/** How long a description may take, milliseconds. */
const DESCRIBE_MS = 10_000

/** Bytes of a description: several times what may be registered of it. */
const DESCRIPTION_BYTES = 4 * 1024 * 1024
/** Waits between attempts to reach an endpoint: doubling up to a second, then a fifth longer each time. */
const FIRST_PROBE_MS = 250
const LONGEST_PROBE_MS = 30_000

/** What an endpoint says that it is. */
export interface Described {
  /** Whether it is one of this package, which runs whole turns; `undefined` when its answer is no description. */
  readonly turns: boolean | undefined
  readonly functions: ReadonlyArray<FunctionRegistration>
  /** What it answered, when that is no description and may also come from one of this package that is not well. */
  readonly doubt?: string
}

export interface EndpointOptions {
  readonly url: string
  readonly environment: string
  readonly workerId: string
  readonly settings: PushSettings
  readonly clock: Clock.Clock
  /** Where there is room for answers: of all endpoints. */
  readonly intake: Intake
  /** Runs an effect in the background, as long as the engine lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly connect: (
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: { readonly transport: string; readonly leaseMs: number }
  ) => Effect.Effect<RemoteSession, ValidationError | StoreError>
  readonly extendLeases: (
    jobIds: ReadonlyArray<string>,
    leaseMs: number
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  readonly loseLease: (jobId: string, why: string) => Effect.Effect<boolean, StoreError>
  readonly findFunction: (environment: string, functionId: string) => FunctionRegistration | undefined
}

interface TurnInFlight {
  readonly job: Job
  fiber: Fiber.Fiber<void> | undefined
  /** Done when the request is to be given up. */
  readonly hangUp: Deferred.Deferred<void>
  isGivenUp: boolean
  notices: Array<Notice>
  /** Somebody waits for a notice. */
  waiting: Deferred.Deferred<void> | undefined
}

export class Endpoint {
  readonly url: string
  readonly environment: string
  readonly #options: EndpointOptions
  readonly #turns = new Map<string, TurnInFlight>()
  #session: RemoteSession | undefined
  #speaksTurns: boolean | undefined
  #problem: string | undefined = "it has not been asked yet"
  #probing: Fiber.Fiber<void> | undefined
  /** The wait before the next attempt to reach it. */
  #probeMs = FIRST_PROBE_MS
  /** Whether it is taken for one of another package without being known as one. */
  #isInDoubt = false
  /** Whether it has answered a turn in the protocol of other packages. */
  #ranSegment = false
  #codes = ""
  #hasLeft = false

  constructor(options: EndpointOptions) {
    this.#options = options
    this.url = options.url
    this.environment = options.environment
  }

  /** Why nothing is sent to it now. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Takes runs of these functions from now on. Turns in flight go on. */
  serve(functions: ReadonlyArray<FunctionRegistration>): Effect.Effect<void, ValidationError | StoreError> {
    const codes = JSON.stringify(functions.map(({ codeHash, id }) => [id, codeHash]))
    if (codes === this.#codes) return Effect.void
    const { connect, environment, settings, url, workerId } = this.#options
    if (functions.some(({ endpointTurns }) => endpointTurns === true)) this.#speaksTurns ??= true
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
          // it only says again what is registered: whatever came later stands
          startedAt: 0,
          // those that do not understand are not told, see `PushEndpoints.update`
          pauses: true
        },
        { onJob: (job) => this.#start(job), onNotice: (notice) => this.#hear(notice) },
        { transport: "push", leaseMs: LEASE_MS }
      )
      this.#session = session
      this.#codes = codes
      this.#hasLeft = false
      session.setReachable(this.#problem === undefined, this.#whyNot)
      // what an engine before this one had in flight has nobody who waits for its answer
      yield* session.adopt([...this.#turns.keys()])
      session.credit(settings.maxConcurrent - this.#turns.size)
      if (this.#problem !== undefined && this.#probing === undefined) this.#probe(0)
    })
  }

  /** It has just answered; `undefined` when it is not known yet whether it runs turns. */
  answered(turns: boolean | undefined): void {
    this.#probing?.interruptUnsafe()
    this.#probing = undefined
    this.#speaksTurns = turns
    this.#isInDoubt = turns === undefined
    if (turns === true) this.#probeMs = FIRST_PROBE_MS
    this.#problem = undefined
    this.#session?.setReachable(true)
  }

  /** Whether it takes runs now. */
  get isServing(): boolean {
    return this.#session !== undefined && !this.#hasLeft
  }

  /** Whether a request is open. */
  get isBusy(): boolean {
    return this.#turns.size > 0
  }

  /** Takes nothing any more. The runs in flight go to others when the handler has let go of them. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#turns.size === 0) return this.close
    this.#probing?.interruptUnsafe()
    this.#probing = undefined
    this.#hasLeft = true
    this.#codes = ""
    this.#session?.detach()
    for (const jobId of this.#turns.keys())
      this.#hear({ _tag: "LeaseLost", jobId, reason: "the endpoint was removed" })
    return Effect.void
  })

  /** Breaks off what is in flight and takes nothing any more. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#probing?.interruptUnsafe()
    this.#probing = undefined
    this.#codes = ""
    for (const turn of this.#turns.values()) turn.fiber?.interruptUnsafe()
    const session = this.#session
    this.#session = undefined
    if (session === undefined) return Effect.void
    return Effect.catch(session.close(false), (error) =>
      Effect.logWarning(
        `The runs of endpoint ${this.url} could not be taken back; their leases run out`,
        error
      )
    )
  })

  /** Whether the turn's request is open. */
  has(jobId: string): boolean {
    return this.#turns.has(jobId)
  }

  /** Notices for a turn in flight; waits for one at most `waitMs` when there is none. */
  notices(jobId: string, waitMs: number): Effect.Effect<ReadonlyArray<Notice>> {
    return Effect.suspend(() => {
      const turn = this.#turns.get(jobId)
      if (turn === undefined) return Effect.succeed([])
      const take = Effect.sync(() => turn.notices.splice(0))
      if (turn.notices.length > 0 || waitMs <= 0) return take
      const waiting = (turn.waiting ??= Deferred.makeUnsafe())
      return Effect.andThen(
        Effect.timeoutOption(Deferred.await(waiting), Math.min(waitMs, MAX_WAIT_MS)),
        take
      )
    })
  }

  /** Asks the endpoint what it is. */
  readonly describe: Effect.Effect<Described, PostError | IronflowError> = Effect.suspend(() => {
    const { clock } = this.#options
    const request: DescribeRequest = { type: "describe", sent_at: clock.currentTimeMillisUnsafe() }
    return this.#post(
      { body: JSON.stringify(request), timeoutMs: DESCRIBE_MS, most: DESCRIPTION_BYTES },
      (answer): Effect.Effect<Described, IronflowError> => {
        const body = bodyOf(answer)
        if (isIronflowError(body))
          return Effect.fail(unavailable(`its answer is not acceptable: ${body.message}`))
        if (answer.status === 200 && isObject(body) && body.type === "description") {
          const turns = isObject(body.capabilities) && numberOf(body.capabilities.turns) >= 1
          // each is checked as it is registered
          const functions = Array.isArray(body.functions)
            ? (body.functions as ReadonlyArray<FunctionRegistration>)
            : []
          return Effect.succeed({ turns, functions })
        }
        const unknown = { turns: undefined, functions: [] }
        const problem =
          unavailability(answer, body) ??
          (answer.status >= 500 ? `it answered ${answer.status}${reasonIn(body)}` : undefined)
        if (problem === undefined) return Effect.succeed(unknown)
        // one that does not know the question may fail over it, or have no function of no name
        return [404, 405, 500].includes(answer.status) && codeIn(body) !== "BODY_CONSUMED"
          ? Effect.succeed({ ...unknown, doubt: problem })
          : Effect.fail(unavailable(problem))
      }
    )
  })

  // -------------------------------------------------------------------------------------------------------------------
  // Whether it can be reached
  // -------------------------------------------------------------------------------------------------------------------

  get #whyNot(): string {
    return `The endpoint ${this.url} is not available: ${this.#problem ?? "it has been closed"}`
  }

  #unavailable(problem: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const isNew = this.#problem === undefined
      this.#problem = problem
      this.#session?.setReachable(false, this.#whyNot)
      if (!isNew) return Effect.void
      const isFirst = this.#probeMs === FIRST_PROBE_MS
      this.#probe(this.#probeMs)
      return isFirst
        ? Effect.logWarning(`${this.#whyNot}. Its runs wait, and it is tried again`)
        : Effect.void
    })
  }

  /** Tries until it can be reached. */
  #probe(delayMs: number): void {
    const again = Math.min(Math.max(FIRST_PROBE_MS, delayMs * (delayMs < 1000 ? 2 : 1.2)), LONGEST_PROBE_MS)
    this.#probing = this.#options.fork(
      Effect.matchEffect(Effect.delay(this.#ask, delayMs), {
        onSuccess: (turns) =>
          Effect.suspend(() => {
            this.#probing = undefined
            this.answered(turns)
            // only a turn shows whether one of another package is there
            if (turns !== true) this.#probeMs = again
            return delayMs > 0 && turns !== undefined
              ? Effect.logInfo(`The endpoint ${this.url} is available again`)
              : Effect.void
          }),
        onFailure: (error) =>
          Effect.suspend(() => {
            const isNew = delayMs === 0
            this.#problem = error.message
            this.#session?.setReachable(false, this.#whyNot)
            this.#probe(again)
            return isNew
              ? Effect.logWarning(`${this.#whyNot}. Its runs wait, and it is tried again`)
              : Effect.void
          })
      })
    )
  }

  /**
   * Whether it runs whole turns; `undefined` when its answer may come from one of this package that is not well. One that is
   * known to run turns is another one now only when it says so itself.
   */
  readonly #ask: Effect.Effect<boolean | undefined, PostError | IronflowError> = Effect.suspend(() =>
    Effect.flatMap(this.describe, ({ doubt, turns }) => {
      if (turns !== undefined) return Effect.succeed(turns)
      if (this.#speaksTurns !== true) {
        return Effect.succeed(doubt === undefined || this.#ranSegment ? false : undefined)
      }
      return Effect.fail(
        unavailable(
          doubt ??
            "its answer is no description, which it had given before. " +
              "If another handler is there for good, remove the endpoint and register that one"
        )
      )
    })
  )

  #post<A, E>(
    {
      body,
      hangUp,
      most = Number.POSITIVE_INFINITY,
      timeoutMs
    }: {
      readonly body: string
      readonly timeoutMs: number
      readonly hangUp?: Effect.Effect<void>
      /** Bytes of the answer. */
      readonly most?: number
    },
    use: (answer: PostAnswer) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | PostError> {
    const { environment, intake, settings, url } = this.#options
    const { allowPrivateNetworks, maxResponseBytes, signingKey } = settings
    const request = {
      url,
      body,
      timeoutMs,
      maxResponseBytes: Math.min(maxResponseBytes, most),
      allowPrivateNetworks,
      intake,
      ...(hangUp === undefined ? {} : { hangUp }),
      headers: {
        [ENVIRONMENT_HEADER]: environment,
        ...(signingKey === undefined ? {} : { [SIGNATURE_HEADER]: sign(body, Redacted.value(signingKey)) })
      }
    }
    return post(request, use)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Turns
  // -------------------------------------------------------------------------------------------------------------------

  #start(job: Job): void {
    const turn: TurnInFlight = {
      job,
      fiber: undefined,
      hangUp: Deferred.makeUnsafe(),
      isGivenUp: false,
      notices: [],
      waiting: undefined
    }
    this.#turns.set(job.jobId, turn)
    const over = Effect.sync(() => {
      this.#turns.delete(job.jobId)
      wake(turn)
      this.#session?.credit(1)
    })
    turn.fiber = this.#options.fork(
      Effect.raceFirst(this.#run(turn), this.#keepLease(turn)).pipe(
        Effect.ensuring(over),
        Effect.andThen(
          Effect.suspend(() => (this.#hasLeft && this.#turns.size === 0 ? this.close : Effect.void))
        )
      )
    )
  }

  #hear(notice: Notice): void {
    const turn = this.#turns.get(notice.jobId)
    if (turn === undefined) return
    turn.notices.push(notice)
    wake(turn)
    if (!endsLease(notice)) return
    // whoever runs it sees its request broken off; one that asks for notices learns why
    turn.isGivenUp = true
    Deferred.doneUnsafe(turn.hangUp, Exit.void)
  }

  #keepLease(turn: TurnInFlight): Effect.Effect<void> {
    const { jobId } = turn.job
    return Effect.andThen(
      Effect.sleep(TICK_MS),
      Effect.suspend(() => {
        // how long its lease still holds is how long the handler is waited for
        if (turn.isGivenUp) return Effect.never
        return Effect.matchEffect(this.#options.extendLeases([jobId], LEASE_MS), {
          onSuccess: (gone) => (gone.length === 0 || turn.isGivenUp ? this.#keepLease(turn) : Effect.void),
          onFailure: (error) =>
            Effect.andThen(
              Effect.logError(`The lease of ${jobId} could not be extended`, error),
              Effect.suspend(() => this.#keepLease(turn))
            )
        })
      })
    )
  }

  #run(turn: TurnInFlight): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.#isInDoubt) return this.#send(turn, this.#speaksTurns === true)
      return Effect.matchEffect(this.#ask, {
        onSuccess: (turns) =>
          Effect.suspend(() => {
            if (turn.isGivenUp) return this.#giveBack(turn)
            this.answered(turns)
            return this.#send(turn, turns === true)
          }),
        onFailure: (error) => (turn.isGivenUp ? this.#giveBack(turn) : this.#putOff(turn.job, error.message))
      })
    })
  }

  /** `turns` says whether as a whole turn, or as a segment for a handler of another package. */
  #send(turn: TurnInFlight, turns: boolean): Effect.Effect<void> {
    const { clock, settings } = this.#options
    const { job } = turn
    return Effect.suspend(() => {
      const nowMs = clock.currentTimeMillisUnsafe()
      const refused = turns ? undefined : unusable(job, () => false, untoldToHandlers)
      if (refused !== undefined) {
        // one of ours that is not well can go on with it later
        return this.#isInDoubt ? this.#putOff(job, NOT_KNOWN) : this.#report(job, [refused])
      }
      const request: TurnRequest = { type: "turn", sent_at: nowMs, job }
      const body = turns ? JSON.stringify(request) : encodePushRequest(job, nowMs)
      const answered = this.#post(
        { body, timeoutMs: settings.timeoutMs, hangUp: Deferred.await(turn.hangUp) },
        (answer) =>
          Effect.andThen(
            this.#answered(job, answer, turns),
            Effect.suspend(() => (turn.isGivenUp ? this.#dropped(job) : Effect.void))
          )
      )
      return Effect.catch(answered, (error) => {
        if (turn.isGivenUp) return this.#giveBack(turn)
        return error.reason === "reached" ? this.#lost(job, error.message) : this.#putOff(job, error.message)
      })
    })
  }

  /** The turn that was given up is with nobody. */
  #giveBack({ job }: TurnInFlight): Effect.Effect<void> {
    return this.#hasLeft ? this.#report(job, [{ _tag: "Release" }]) : this.#dropped(job)
  }

  /** The turn goes back unharmed, and comes again when the endpoint can be reached. */
  #putOff(job: Job, problem: string): Effect.Effect<void> {
    return Effect.andThen(this.#unavailable(problem), this.#report(job, [{ _tag: "Release" }]))
  }

  /** The handler is not at the turn any more that was taken back. */
  #dropped({ jobId, runId }: Job): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.catch(this.#session?.dropped([jobId]) ?? Effect.void, (error) =>
        Effect.logError(`Run ${runId} waits for the end of its lease`, error)
      )
    )
  }

  #answered(job: Job, answer: PostAnswer, turns: boolean): Effect.Effect<void> {
    const body = bodyOf(answer)
    const problem = unavailability(answer, body)
    if (problem !== undefined) return this.#putOff(job, problem)
    this.#probeMs = FIRST_PROBE_MS
    if (answer.status !== 200) return this.#lost(job, `it answered ${answer.status}${reasonIn(body)}`)
    return Effect.suspend(() => {
      let ops: ReadonlyArray<TurnOp>
      try {
        ops = this.#readOps(job, body, turns)
        if (!turns) this.#ranSegment = true
      } catch (error) {
        if (!isIronflowError(error)) {
          return Effect.andThen(
            Effect.logError(
              `An answer of the endpoint ${this.url} could not be read because of a bug`,
              error
            ),
            this.#lost(job, "its answer could not be read")
          )
        }
        // the run would come to the same answer again
        return error.code === "LIMIT_EXCEEDED"
          ? this.#report(job, failTooLarge(error as ValidationError))
          : this.#lost(job, `its answer is not acceptable: ${error.message}`)
      }
      const last = ops.at(-1)
      if (last !== undefined && endsTurn(last)) return this.#report(job, ops)
      const reported = ops.length === 0 ? Effect.void : this.#report(job, ops)
      // the end of the turn was reported by a request of its own, or else it has none
      return Effect.andThen(reported, this.#lost(job, "it answered before the turn had come to an end"))
    })
  }

  #readOps(job: Job, body: unknown, turns: boolean): ReadonlyArray<TurnOp> {
    if (isIronflowError(body)) throw body
    if (!turns) {
      const { clock, environment, findFunction } = this.#options
      const retry = findFunction(environment, job.functionId)?.retry
      return readPushResponse(
        job.runId,
        body,
        retry === undefined ? undefined : { attempt: job.attempt, retry },
        clock.currentTimeMillisUnsafe()
      )
    }
    const report = { jobId: job.jobId, runId: job.runId, ops: isObject(body) ? body.ops : undefined }
    checkReport(report, "The answer")
    // checked one by one
    return report.ops as ReadonlyArray<TurnOp>
  }

  /** Stores what a turn has come to, however often it takes. What is refused was somebody else's, or is over. */
  #report(job: Job, ops: ReadonlyArray<TurnOp>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const session = this.#session
      if (session === undefined) return Effect.void
      const { jobId, runId } = job
      return session.report([{ jobId, runId, ops }]).pipe(
        Effect.tapError((error) =>
          Effect.logError(`A report of run ${runId} could not be stored; trying again`, error)
        ),
        Effect.retry(sendAgain),
        Effect.orDie,
        Effect.asVoid
      )
    })
  }

  #lost(job: Job, why: string): Effect.Effect<void> {
    return this.#options.loseLease(job.jobId, `the endpoint ${this.url}: ${why}`).pipe(
      Effect.retry(sendAgain),
      Effect.orDie,
      Effect.flatMap((held) =>
        held
          ? Effect.logWarning(`A turn of run ${job.runId} was lost at the endpoint ${this.url}: ${why}`)
          : Effect.void
      )
    )
  }
}

const NOT_KNOWN =
  "it does not say what it is, and only a handler of this package can go on with a run that waits for it. " +
  "One of another package answers `describe` with 400, or a turn of another run"

const unavailable = (problem: string): IronflowError =>
  new EndpointUnavailableError(problem, { retryable: true })

const wake = (turn: TurnInFlight): void => {
  if (turn.waiting === undefined) return
  Deferred.doneUnsafe(turn.waiting, Exit.void)
  turn.waiting = undefined
}

/** The answer as JSON; `undefined` when it is none, the error when there is more in it than may be. */
const bodyOf = ({ text }: PostAnswer): unknown => {
  try {
    return safeJsonParse(checkShape("the answer", text))
  } catch (error) {
    if (isIronflowError(error)) return error
    throw error
  }
}

const codeIn = (body: unknown): unknown =>
  isObject(body) && isObject(body.error) ? body.error.code : undefined

/** Why an endpoint that gives this answer takes no turns now; `undefined` when it may. */
const unavailability = ({ status }: PostAnswer, body: unknown): string | undefined => {
  const code = codeIn(body)
  if (code === "FUNCTION_NOT_FOUND") return undefined
  const isProblem =
    code === "BODY_CONSUMED" ||
    (status >= 300 && status < 400) ||
    [401, 403, 404, 405, 429, 502, 503, 504].includes(status)
  return isProblem ? `it answered ${status}${reasonIn(body)}` : undefined
}

/** What the answer says about itself, on one line. */
const reasonIn = (body: unknown): string => {
  const message = isObject(body) && isObject(body.error) ? body.error.message : undefined
  return typeof message === "string" ? `: ${message.slice(0, 500).replace(/\s+/g, " ")}` : ""
}
