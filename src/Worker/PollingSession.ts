/**
 * The session of a polling worker. One poll is open, sometimes two for a moment, and one batch of reports may be in
 * flight beside the polls.
 */
import * as Effect from "effect/Effect"
import { invalidResponseError, isFromServer, serverFailureOf } from "../Client/HttpFailures.ts"
import type { Answer } from "../Client/HttpExchange.ts"
import { ConnectionError, type IronflowError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import type * as Turns from "../Protocol/Http/Turns.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import { deregisterWorker, lateTurn, pollTurns, reportTurns } from "../Protocol/Workers.ts"
import { parseSealed, seal } from "../Protocol/Seal.ts"
import { register, type RegistrationAnswer } from "./PollingRegistration.ts"
import { toConnectionError, isSuccess, monotonicMs } from "./ServerLink.ts"
import type { Batch } from "./ReportBatches.ts"
import { deregisterTimeoutMs, sessionOverError, TurnSession } from "./TurnSession.ts"

export class PollingSession extends TurnSession {
  /** Number of the newest poll. Older polls are not repeated. */
  #newestPoll = 0
  #openPolls = 0

  readonly deregister: Effect.Effect<void> = Effect.suspend(() => {
    const { connection, options, registration } = this.link
    if (this.session === undefined || this.isRefused) return Effect.void
    const request = connection.send({
      method: deregisterWorker.method,
      path: `${pathOf(deregisterWorker, { id: registration.workerId })}?session=${encodeURIComponent(this.session)}`,
      what: `The deregistration of worker ${registration.workerId}`,
      timeoutMs: deregisterTimeoutMs
    })
    return Effect.catch(Effect.asVoid(request), (error) =>
      Effect.sync(() =>
        options.logger.debug(`${error.message}. The server finds out by itself that the worker is gone`)
      )
    )
  })

  protected register(
    jobs: ReadonlyArray<string>,
    timeoutMs: number
  ): Effect.Effect<RegistrationAnswer, IronflowError> {
    return register(this.link, this.instance, jobs, timeoutMs, this.since)
  }

  protected tellCounts(): void {
    // a newer poll makes the server answer the older one; while two are open, the server is not answering, and a third
    // poll would not help
    if (this.#openPolls < 2) this.link.fork(this.#keepPolling)
  }

  protected renewNow(): void {
    this.tellCounts()
  }

  protected sendBatch(session: string, batch: Batch): Effect.Effect<unknown, IronflowError> {
    return Effect.suspend(() =>
      Effect.flatMap(
        Effect.mapError(
          this.#post(
            reportTurns,
            `{"session":${JSON.stringify(session)},"batch":${batch.number},${this.roomFields()},"reports":${batch.text}}`,
            this.reportName,
            // this timeout may be short: a batch may be sent again, since the server applies each batch number once
            Math.min(this.answerTimeoutMs, this.link.options.server.timeoutMs)
          ),
          (error) => (error._tag === "TimeoutError" ? toConnectionError(error) : error)
        ),
        (text) => parseSealed(text, this.seals)
      )
    )
  }

  protected sendLateStep(request: Turns.LateRequest): Effect.Effect<void, IronflowError> {
    const what = `The report of a late step of run ${request.runId}`
    return Effect.asVoid(this.#post(lateTurn, JSON.stringify(request), what))
  }

  /** Sends a request once. Returns the text of the answer, whose status is 2xx. */
  #post(
    operation: Operation,
    body: string,
    what: string,
    timeoutMs?: number
  ): Effect.Effect<string, IronflowError> {
    const { connection, registration } = this.link
    return Effect.flatMap(
      connection.send({
        method: operation.method,
        path: pathOf(operation, { id: registration.workerId }),
        body: seal(body),
        what,
        ...(timeoutMs === undefined ? {} : { timeoutMs })
      }),
      (answer) => (isSuccess(answer) ? Effect.succeed(answer.text) : Effect.fail(readRejection(answer, what)))
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Polls
  // -------------------------------------------------------------------------------------------------------------------

  readonly #keepPolling: Effect.Effect<void> = Effect.suspend(() => {
    let pollNumber = ++this.#newestPoll
    const pollNext = (): Effect.Effect<void> =>
      Effect.flatMap(
        this.#poll.pipe(
          Effect.catchDefect((cause) =>
            Effect.fail(new ConnectionError("A poll failed because of a bug: please report this", { cause }))
          ),
          Effect.catch((error) => Effect.sleep(this.noteFailure(error)))
        ),
        () => {
          if (pollNumber !== this.#newestPoll) {
            this.tellChanges()
            return Effect.void
          }
          pollNumber = ++this.#newestPoll
          return pollNext()
        }
      )
    return pollNext()
  })

  readonly #poll: Effect.Effect<void, IronflowError> = Effect.suspend(() => this.whenConnected()).pipe(
    Effect.flatMap((session) => {
      const sentAt = monotonicMs(this.link.clock)
      const waitMs = this.#waitMs
      const renewal = this.renewalFields()
      const what = `The poll of worker ${this.link.registration.workerId}`
      this.#openPolls++
      const answer = this.#post(
        pollTurns,
        `{"session":${JSON.stringify(session)},"seen":${this.seen},"waitMs":${waitMs},${this.roomFields()}${renewal}}`,
        what,
        waitMs + this.answerTimeoutMs
      )
      return Effect.matchEffect(
        Effect.ensuring(
          answer,
          Effect.sync(() => this.#openPolls--)
        ),
        {
          onSuccess: (text) =>
            // an answer to a poll of an earlier session does not count in this session
            session === this.session ? this.#onPollAnswer(text, sentAt, renewal, what) : Effect.void,
          onFailure: (error) =>
            session !== this.session || this.handleFailure(session, error) ? Effect.void : Effect.fail(error)
        }
      )
    })
  )

  /**
   * How long the engine may hold a poll, in milliseconds. The answer confirms the leases, so it must arrive early
   * enough.
   */
  get #waitMs(): number {
    const { heartbeatMs } = this.link.options
    if (this.awaitsRenewal) return 1
    return Math.max(1, Math.floor(Math.min(this.terms.waitMs, this.renewalIntervalMs, heartbeatMs)))
  }

  #onPollAnswer(
    text: string,
    sentAt: number,
    renewal: string,
    what: string
  ): Effect.Effect<void, IronflowError> {
    return Effect.flatMap(parseSealed(text, this.seals), (response): Effect.Effect<void, IronflowError> => {
      if (!isObject(response) || !Array.isArray(response.deliveries)) {
        const { url } = this.link.connection.server
        return Effect.fail(invalidResponseError(url, what, "it has no deliveries", text))
      }
      this.noteRenewal(sentAt, renewal)
      this.takeDeliveries(response.deliveries as Turns.PollResponse["deliveries"])
      if (response.closing === true) return Effect.fail(this.closingError)
      this.noteAnswer()
      return Effect.void
    })
  }
}

const readRejection = (answer: Answer, what: string): IronflowError => {
  const error = serverFailureOf(answer, what)
  return answer.status === 404 && isFromServer(answer) ? sessionOverError(error.message, error) : error
}
