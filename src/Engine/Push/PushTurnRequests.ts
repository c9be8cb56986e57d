/**
 * The active turns at a push endpoint, each with its request. Decides what is sent, how the answer ends the turn, and what the
 * handler is told in between.
 *
 * A turn whose request never arrived, or whose function the app does not have, is given back without a loss. A turn that may have
 * begun, and then was lost, counts as a loss of its run, as with any worker. Neither uses up an attempt.
 */
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { isIronflowError, type StoreError, type ValidationError } from "../../Errors.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import { failTooLargeOps } from "../../Protocol/LegacyJobs.ts"
import { turnRequest } from "../../Protocol/Push.ts"
import {
  endsLease,
  endsTurn,
  type FunctionRegistration,
  type Job,
  type Notice,
  type TurnReport
} from "../../Protocol/Worker.ts"
import { resendDelays } from "../../Worker/Reporter.ts"
import { opForUnusable } from "../Workers/LegacyWorker.ts"
import type { RunningTurn } from "../../Protocol/RunningSteps.ts"
import { ReportedSteps } from "../Workers/ReportedSteps.ts"
import { StoreOutage } from "../Store/StoreOutage.ts"
import type { RemoteSession } from "../Workers/RemoteSession.ts"
import { logLeftOut } from "../Workers/LogLeftOut.ts"
import {
  type RequestKind,
  bodyOf,
  lacksFunction,
  readReport,
  reasonIn,
  unavailableReason
} from "./Answers.ts"
import type { Availability } from "./Availability.ts"
import type { MissingFunctions } from "./MissingFunctions.ts"
import { type EndpointTarget, postTo } from "./EndpointRequest.ts"
import { encodePushRequest, unsentFailureKinds } from "../../Protocol/LegacyHandlers.ts"
import type { PostAnswer } from "./HttpPost.ts"

/**
 * How long a lease lasts unless the engine extends it, in milliseconds. The lease of a turn expires only when the engine is gone or
 * has given up the turn.
 */
export const LEASE_MS = 30_000
/** How often the leases of active turns are extended, in milliseconds. */
const RENEWAL_INTERVAL_MS = LEASE_MS / 3

export interface TurnRequestsOptions extends EndpointTarget {
  readonly clock: Clock.Clock
  /** Runs an effect in the background, as long as the engine lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly extendLeases: (
    jobIds: ReadonlyArray<string>,
    leaseMs: number
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  readonly loseLease: (jobId: string, why: string) => Effect.Effect<boolean, StoreError>
  readonly findFunction: (environment: string, functionId: string) => FunctionRegistration | undefined
}

/** What turn requests need of their endpoint. */
export interface TurnsEndpoint {
  readonly availability: Availability
  readonly missing: MissingFunctions
  /** The session of the endpoint; absent when it has none any more. */
  readonly session: () => RemoteSession | undefined
  /** Whether the endpoint gets no more runs. */
  readonly hasLeft: () => boolean
  /** Run when a turn has ended. */
  readonly onOver: Effect.Effect<void>
}

interface TurnInFlight {
  readonly job: Job
  fiber: Fiber.Fiber<void> | undefined
  /** Completed when the turn's request is to be aborted. */
  readonly hangUp: Deferred.Deferred<void>
  /** Whether the engine no longer needs the answer, because the lease has ended. */
  isGivenUp: boolean
  readonly reportedSteps: ReportedSteps
  notices: Array<Notice>
  /** Completed with the next notice, while a request waits for one. */
  nextNotice: Deferred.Deferred<void> | undefined
}

export class PushTurnRequests {
  readonly #options: TurnRequestsOptions
  readonly #endpoint: TurnsEndpoint
  readonly #turns = new Map<string, TurnInFlight>()

  readonly #reportOutage: StoreOutage
  readonly #leaseOutage: StoreOutage

  constructor(options: TurnRequestsOptions, endpoint: TurnsEndpoint) {
    const { url } = options
    this.#options = options
    this.#endpoint = endpoint
    this.#reportOutage = new StoreOutage(
      `Reports of the endpoint ${url} cannot be stored`,
      `Reports of the endpoint ${url} can be stored again`,
      "every few seconds"
    )
    this.#leaseOutage = new StoreOutage(
      `Leases of turns at the endpoint ${url} cannot be extended`,
      `Leases of turns at the endpoint ${url} can be extended again`,
      `every ${RENEWAL_INTERVAL_MS / 1000} s`
    )
  }

  get turnCount(): number {
    return this.#turns.size
  }

  get jobIds(): ReadonlyArray<string> {
    return [...this.#turns.keys()]
  }

  /** Whether the request of a turn is open. */
  has(jobId: string): boolean {
    return this.#turns.has(jobId)
  }

  start(job: Job): void {
    const turn: TurnInFlight = {
      job,
      fiber: undefined,
      hangUp: Deferred.makeUnsafe(),
      isGivenUp: false,
      reportedSteps: new ReportedSteps(),
      notices: [],
      nextNotice: undefined
    }
    this.#turns.set(job.jobId, turn)
    const removeTurn = Effect.sync(() => {
      this.#turns.delete(job.jobId)
      wakeWaiter(turn)
      const session = this.#endpoint.session()
      // a turn that was lost has ended without a report
      session?.forget(job.jobId)
      session?.makeRoom(1)
    })
    turn.fiber = this.#options.fork(
      Effect.raceFirst(this.#run(turn), this.#keepLease(turn)).pipe(
        Effect.ensuring(removeTurn),
        Effect.andThen(this.#endpoint.onOver)
      )
    )
  }

  /** Aborts the requests of all turns. */
  abortAll(): void {
    for (const turn of this.#turns.values()) turn.fiber?.interruptUnsafe()
  }

  /** Takes a notice from the engine for a turn. */
  addNotice(notice: Notice): void {
    const turn = this.#turns.get(notice.jobId)
    if (turn === undefined) return
    turn.notices.push(notice)
    wakeWaiter(turn)
    if (!endsLease(notice)) return
    // the handler sees that its request is aborted; a handler that asks for notices learns the reason
    turn.isGivenUp = true
    Deferred.doneUnsafe(turn.hangUp, Exit.void)
  }

  /** Takes the handler's report of which steps run in a turn. */
  updateRunningSteps(jobId: string, steps: unknown): void {
    const turn = this.#turns.get(jobId)
    if (turn === undefined) return
    const { runId } = turn.job
    turn.reportedSteps.update(
      [{ jobId, runId, steps: steps ?? [] }],
      this.#options.clock.currentTimeMillisUnsafe()
    )
  }

  /** The steps that run, by the last reports of the handlers. */
  get running(): ReadonlyArray<RunningTurn> {
    const now = this.#options.clock.currentTimeMillisUnsafe()
    return [...this.#turns.values()].flatMap(({ reportedSteps }) => reportedSteps.turnsAt(now))
  }

  /** The notices for an active turn. When there are none, waits at most `waitMs` for one. */
  notices(jobId: string, waitMs: number): Effect.Effect<ReadonlyArray<Notice>> {
    return Effect.suspend(() => {
      const turn = this.#turns.get(jobId)
      if (turn === undefined) return Effect.succeed([])
      const take = Effect.sync(() => turn.notices.splice(0))
      if (turn.notices.length > 0 || waitMs <= 0) return take
      const nextNotice = (turn.nextNotice ??= Deferred.makeUnsafe())
      return Effect.andThen(
        Effect.timeoutOption(Deferred.await(nextNotice), Math.min(waitMs, MAX_WAIT_MS)),
        take
      )
    })
  }

  #keepLease(turn: TurnInFlight): Effect.Effect<void> {
    const { jobId } = turn.job
    return Effect.andThen(
      Effect.sleep(RENEWAL_INTERVAL_MS),
      Effect.suspend(() => {
        // the lease is not extended any more: the handler has to drop the turn before the lease ends
        if (turn.isGivenUp) return Effect.never
        return Effect.matchEffect(this.#options.extendLeases([jobId], LEASE_MS), {
          onSuccess: (lostIds) =>
            Effect.andThen(
              this.#leaseOutage.succeeded(),
              lostIds.length === 0 || turn.isGivenUp ? this.#keepLease(turn) : Effect.void
            ),
          onFailure: (error) =>
            Effect.andThen(
              this.#leaseOutage.failed(error),
              Effect.suspend(() => this.#keepLease(turn))
            )
        })
      })
    )
  }

  #run(turn: TurnInFlight): Effect.Effect<void> {
    const { availability } = this.#endpoint
    return Effect.suspend(() => {
      if (!availability.isInDoubt) return this.#send(turn, availability.runsTurns)
      return Effect.matchEffect(availability.ask, {
        onSuccess: (turns) =>
          Effect.suspend(() => {
            if (turn.isGivenUp) return this.#giveBack(turn)
            availability.noteAnswer(turns)
            return this.#send(turn, turns === true)
          }),
        onFailure: (error) =>
          turn.isGivenUp ? this.#giveBack(turn) : this.#postpone(turn.job, error.message)
      })
    })
  }

  /** Sends a turn: as a whole if `isWhole`, otherwise by the legacy protocol, which runs one step at a time. */
  #send(turn: TurnInFlight, isWhole: boolean): Effect.Effect<void> {
    const { clock, settings } = this.#options
    const { job } = turn
    return Effect.suspend(() => {
      const nowMs = clock.currentTimeMillisUnsafe()
      const opInstead = isWhole ? undefined : opForUnusable(job, () => false, unsentFailureKinds)
      if (opInstead !== undefined) {
        // the endpoint may be one of this package that is unhealthy now: it can go on with the turn later
        return this.#endpoint.availability.isInDoubt
          ? this.#postpone(job, notKnown(job.runId))
          : this.#report(job, { ops: [opInstead] })
      }
      const body = isWhole ? JSON.stringify(turnRequest(job, nowMs)) : encodePushRequest(job, nowMs)
      const answered = postTo(
        this.#options,
        { body, timeoutMs: settings.timeoutMs, hangUp: Deferred.await(turn.hangUp) },
        (answer) =>
          Effect.andThen(
            this.#handleAnswer(job, answer, isWhole),
            Effect.suspend(() => (turn.isGivenUp ? this.#noteDropped(job) : Effect.void))
          )
      )
      return Effect.catch(answered, (error) => {
        if (turn.isGivenUp) return this.#giveBack(turn)
        return error.reason === "reached"
          ? this.#loseTurn(job, error.message)
          : this.#postpone(job, error.message)
      })
    })
  }

  /** Gives back an aborted turn, which no handler has any more. */
  #giveBack({ job }: TurnInFlight): Effect.Effect<void> {
    return this.#endpoint.hasLeft()
      ? this.#report(job, { ops: [{ _tag: "Release" }] })
      : this.#noteDropped(job)
  }

  /** Gives a turn back without a loss. It is dispatched again when the endpoint can be reached. */
  #postpone(job: Job, problem: string): Effect.Effect<void> {
    return Effect.andThen(
      this.#endpoint.availability.markUnavailable(problem),
      this.#report(job, { ops: [{ _tag: "Release" }] })
    )
  }

  /** Tells the engine that the handler has dropped a turn that was taken back. */
  #noteDropped({ jobId, runId }: Job): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.catch(this.#endpoint.session()?.noteDropped([jobId]) ?? Effect.void, (error) =>
        Effect.logError(
          `The lease of job ${jobId} could not be ended: no other worker gets run ${runId} until the lease expires`,
          error
        )
      )
    )
  }

  #handleAnswer(job: Job, answer: PostAnswer, isWhole: boolean): Effect.Effect<void> {
    const body = bodyOf(answer)
    const problem = unavailableReason(answer, body)
    if (problem !== undefined) return this.#postpone(job, problem)
    const { availability, missing } = this.#endpoint
    availability.noteTurnAnswer()
    if (lacksFunction(body)) {
      return Effect.andThen(
        missing.lacks([job.functionId]),
        this.#report(job, { ops: [{ _tag: "Release" }] })
      )
    }
    missing.ran(job.functionId)
    if (answer.status !== 200) return this.#loseTurn(job, `it answered ${answer.status}${reasonIn(body)}`)
    return Effect.suspend(() => {
      let report: TurnReport
      let leftOut: ReadonlyArray<string>
      try {
        const read = readReport(
          job,
          body,
          this.#requestKind(job, isWhole),
          this.#options.clock.currentTimeMillisUnsafe()
        )
        report = read.report
        leftOut = read.leftOut
        if (!isWhole) availability.noteSegmentAnswer()
      } catch (error) {
        if (!isIronflowError(error)) {
          return Effect.andThen(
            Effect.logError(
              `An answer of the endpoint ${this.#options.url} could not be read because of a bug: please report this`,
              error
            ),
            this.#loseTurn(job, "its answer could not be read")
          )
        }
        // another attempt would get the same answer
        return error.code === "LIMIT_EXCEEDED"
          ? this.#report(job, { ops: failTooLargeOps(error as ValidationError) })
          : this.#loseTurn(job, `its answer is not acceptable: ${error.message}`)
      }
      const last = report.ops.at(-1)
      const stored = Effect.andThen(
        logLeftOut(`the endpoint ${this.#options.url}`, leftOut),
        this.#report(job, report)
      )
      if (last !== undefined && endsTurn(last)) return stored
      const reported = report.ops.length === 0 ? Effect.void : stored
      // a separate request may have reported the end of the turn; if none has, the turn is lost
      return Effect.andThen(reported, this.#loseTurn(job, endedTooEarly))
    })
  }

  #requestKind({ attempt, functionId }: Job, isWhole: boolean): RequestKind {
    if (isWhole) return { turns: true }
    const { environment, findFunction } = this.#options
    const retry = findFunction(environment, functionId)?.retry
    return { turns: false, attempts: retry === undefined ? undefined : { attempt, retry } }
  }

  /**
   * Stores the report of a turn, and retries until that succeeds. A report that is refused is not sent again: the turn belongs to
   * another worker, or is over.
   */
  #report(job: Job, report: Omit<TurnReport, "jobId" | "runId">): Effect.Effect<void> {
    return Effect.suspend(() => {
      const session = this.#endpoint.session()
      if (session === undefined) return Effect.void
      const { jobId, runId } = job
      return session.report([{ ...report, jobId, runId }]).pipe(
        Effect.tapError((error) => this.#reportOutage.failed(error)),
        Effect.retry(resendDelays),
        Effect.tap(() => this.#reportOutage.succeeded()),
        Effect.orDie,
        Effect.asVoid
      )
    })
  }

  #loseTurn(job: Job, why: string): Effect.Effect<void> {
    const { loseLease, url } = this.#options
    return loseLease(job.jobId, `the endpoint ${url}: ${why}`).pipe(
      Effect.retry(resendDelays),
      Effect.orDie,
      Effect.flatMap((held) =>
        held
          ? Effect.logWarning(
              `A turn of run ${job.runId} was lost at the endpoint ${url}: ${why}. Unless the run is paused, it is handed out again`
            )
          : Effect.void
      )
    )
  }
}

const endedTooEarly =
  "it answered before the turn had ended. If it reports to another engine, correct its `serverUrl`"

const notKnown = (runId: string): string =>
  `it did not say whether it is a handler of @ironflow/node, and only such a handler can continue run ${runId}. ` +
  "If it is another handler, it must answer `describe` requests with 400, or run a turn of another run first"

const wakeWaiter = (turn: TurnInFlight): void => {
  if (turn.nextNotice === undefined) return
  Deferred.doneUnsafe(turn.nextNotice, Exit.void)
  turn.nextNotice = undefined
}
