/**
 * The session of a worker over a stream: sends calls, receives deliveries, and opens a new stream when one is lost.
 * `Protocol/TurnStream.ts` describes the calls and deliveries.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { timeoutOrElse } from "../Client/PatientTimeout.ts"
import { ConnectionError, type IronflowError, TimeoutError } from "../Errors.ts"
import { type JsonText, isObject } from "../Json.ts"
import type * as Turns from "../Protocol/Http/Turns.ts"
import type { Push, StreamCall } from "../Protocol/TurnStream.ts"
import { readRegistrationAnswer, type RegistrationAnswer, registrationOf } from "./PollingRegistration.ts"
import { monotonicMs, type ServerLink } from "./ServerLink.ts"
import type { Batch } from "./ReportBatches.ts"
import { deregisterTimeoutMs, sessionOverError, TurnSession } from "./TurnSession.ts"
import { showMs } from "../Show.ts"

/** An open stream. It closes together with the scope in which it was opened. */
export interface OpenStream {
  /**
   * Makes a call once. Fails with code `WORKER_UNKNOWN` when the stream is lost before the answer has come.
   */
  readonly call: (call: StreamCall, body: JsonText) => Effect.Effect<unknown, IronflowError>
}

/** Callbacks of a stream. */
export interface StreamEvents {
  /** Called with a message that the engine has pushed, as parsed JSON. It may come before `open` has returned. */
  readonly onPush: (push: unknown) => void
  /** Called when the stream has ended for any reason, except that its scope was closed. */
  readonly onLost: (reason: ConnectionError) => void
}

/** Opens streams of one kind. */
export interface Streams {
  /** The name of this kind in messages, such as `rpc`. */
  readonly name: string
  /** Opens a stream with a registration, and returns when the engine has answered. */
  readonly open: (
    link: ServerLink,
    registration: JsonText,
    events: StreamEvents
  ) => Effect.Effect<
    { readonly stream: OpenStream; readonly registered: unknown },
    IronflowError,
    Scope.Scope
  >
}

/** A stream on which the worker is registered. */
interface RegisteredStream {
  readonly stream: OpenStream
  readonly scope: Scope.Closeable
  readonly registrationAnswer: RegistrationAnswer
  /** Fails when the stream is lost or closed, and so ends all calls on the stream. */
  readonly ended: Deferred.Deferred<never, IronflowError>
  lossReason: ConnectionError | undefined
}

/** Opens a stream and registers the worker on it. */
const openStream = (
  link: ServerLink,
  streams: Streams,
  instance: string,
  jobs: ReadonlyArray<string>,
  timeoutMs: number,
  events: {
    readonly onPush: (push: unknown, current: RegisteredStream) => void
    readonly onLost: (current: RegisteredStream) => void
  },
  since?: string
): Effect.Effect<RegisteredStream, IronflowError> =>
  Effect.suspend(() => {
    const { registration, options } = link
    const scope = Scope.makeUnsafe()
    const ended = Deferred.makeUnsafe<never, IronflowError>()
    let current: RegisteredStream | undefined
    let lost: ConnectionError | undefined
    const earlyPushes: Array<unknown> = []
    const what = `The registration of worker ${registration.workerId}`
    const opening = streams.open(link, JSON.stringify(registrationOf(link, instance, jobs, since)), {
      onPush: (push) => {
        if (current === undefined) earlyPushes.push(push)
        else events.onPush(push, current)
      },
      onLost: (reason) => {
        lost ??= reason
        if (current === undefined || current.lossReason !== undefined) return
        current.lossReason = reason
        events.onLost(current)
      }
    })
    return timeoutOrElse(Scope.provide(opening, scope), timeoutMs, () =>
      Effect.fail(
        new TimeoutError(
          `${what} got no answer from ${options.server.url} within ${showMs(timeoutMs)}`,
          timeoutMs
        )
      )
    ).pipe(
      Effect.onError(() => Scope.close(scope, Exit.void)),
      Effect.map(({ registered, stream }) => {
        const opened: RegisteredStream = {
          stream,
          scope,
          registrationAnswer: readRegistrationAnswer(registered),
          ended,
          lossReason: lost
        }
        current = opened
        // pushes that came before the answer are passed on in their order, after the caller has received the answer
        queueMicrotask(() => earlyPushes.forEach((push) => events.onPush(push, opened)))
        return opened
      })
    )
  })

export class StreamSession extends TurnSession {
  readonly #streams: Streams
  #currentStream: RegisteredStream | undefined
  #isTellingCounts = false
  #arrivedDeliveries: Array<Turns.Delivery> = []
  /** When the last heartbeat was sent. */
  #heartbeatAt = Number.NEGATIVE_INFINITY

  /**
   * Opens the first stream. Returns `undefined` when the server does not exchange turns over this kind of
   * stream.
   */
  static open(
    link: ServerLink,
    streams: Streams,
    instance: string
  ): Effect.Effect<StreamSession | undefined, IronflowError> {
    return Effect.suspend(() => {
      let session: StreamSession | undefined
      const sentAt = monotonicMs(link.clock)
      const opening = openStream(link, streams, instance, [], link.options.server.timeoutMs, {
        onPush: (push, current) => {
          if (session !== undefined) session.#onStreamPush(push, current)
        },
        onLost: (current) => session?.onLost(current)
      })
      return Effect.flatMap(opening, (current) => {
        const { registrationAnswer: terms, scope } = current
        if (terms === undefined) return Effect.as(Scope.close(scope, Exit.void), undefined)
        session = new StreamSession(link, instance, terms, sentAt, streams, current)
        return Effect.succeed(session)
      })
    })
  }

  private constructor(
    link: ServerLink,
    instance: string,
    terms: Turns.RegisterTurnsResponse,
    sentAt: number,
    streams: Streams,
    current: RegisteredStream
  ) {
    super(link, instance, terms, sentAt)
    this.#streams = streams
    this.#currentStream = current
  }

  override start(): void {
    super.start()
    this.link.fork(this.#keepAlive)
    const lost = this.#currentStream?.lossReason
    if (lost !== undefined) this.#lose(lost)
  }

  readonly deregister: Effect.Effect<void> = Effect.suspend(() => {
    const current = this.#currentStream
    if (current === undefined) return Effect.void
    const deregistering =
      this.session === undefined || this.isRefused
        ? Effect.void
        : current.stream.call("leave", JSON.stringify({ session: this.session })).pipe(
            Effect.timeoutOption(deregisterTimeoutMs),
            Effect.catch((error) =>
              Effect.sync(() =>
                this.link.options.logger.debug(
                  `${error.message}. The server finds out by itself that the worker is gone`
                )
              )
            )
          )
    this.session = undefined
    return Effect.andThen(deregistering, Scope.close(current.scope, Exit.void))
  })

  protected register(
    jobs: ReadonlyArray<string>,
    timeoutMs: number
  ): Effect.Effect<RegistrationAnswer, IronflowError> {
    const events = {
      onPush: (push: unknown, current: RegisteredStream) => this.#onStreamPush(push, current),
      onLost: (current: RegisteredStream) => this.onLost(current)
    }
    const { instance, link, since } = this
    const opening = openStream(link, this.#streams, instance, jobs, timeoutMs, events, since)
    return Effect.andThen(
      this.#closeCurrent,
      Effect.map(opening, (current) => {
        this.#currentStream = current
        return current.registrationAnswer
      })
    )
  }

  protected override onRegisteredAgain(): void {
    const lost = this.#currentStream?.lossReason
    if (lost !== undefined) this.#lose(lost)
    else this.tellCounts()
  }

  protected sendBatch(session: string, batch: Batch): Effect.Effect<unknown, IronflowError> {
    return Effect.suspend(() =>
      this.#call(
        "report",
        `{"session":${JSON.stringify(session)},"batch":${batch.number},${this.roomFields()},"reports":${batch.text}}`
      )
    )
  }

  protected sendLateStep(request: Turns.LateRequest): Effect.Effect<void, IronflowError> {
    return Effect.asVoid(this.#call("late", JSON.stringify(request)))
  }

  protected tellCounts(): void {
    // only one request is in flight at a time: the next request tells all changes until then
    if (this.#isTellingCounts || this.session === undefined) return
    this.#isTellingCounts = true
    this.link.fork(
      Effect.ensuring(
        this.#sendHeartbeat,
        Effect.sync(() => {
          this.#isTellingCounts = false
          if (this.hasUnsentChanges) this.tellChanges()
        })
      )
    )
  }

  protected renewNow(): void {
    this.link.fork(this.#sendHeartbeat)
  }

  #onStreamPush(push: unknown, current: RegisteredStream): void {
    // a job from an abandoned stream is dropped: the registration on the next stream does not name it
    if (current === this.#currentStream) this.onPush(push)
  }

  onPush(push: unknown): void {
    if (!isObject(push) || !Array.isArray(push.deliveries)) return
    // the engine pushes what `Protocol/TurnStream.ts` says, so an object with deliveries has this type
    const { closing, deliveries } = push as unknown as Exclude<Push, { readonly registered: unknown }>
    this.#gatherDeliveries(deliveries)
    if (closing === true) this.noteFailure(this.closingError)
  }

  /**
   * Gathers the deliveries that arrive at the same time and takes them together, since one of them may revoke the job
   * of an earlier one.
   */
  #gatherDeliveries(deliveries: Turns.PollResponse["deliveries"]): void {
    this.#arrivedDeliveries.push(...deliveries)
    if (this.#arrivedDeliveries.length > deliveries.length || deliveries.length === 0) return
    const { session } = this
    setImmediate(() => {
      const arrived = this.#arrivedDeliveries
      this.#arrivedDeliveries = []
      // If the stream was lost meanwhile, these deliveries are dropped. The engine delivers a job again if the next
      // registration does not name it.
      if (session === undefined || session === this.session) this.takeDeliveries(arrived)
    })
  }

  onLost(current: RegisteredStream): void {
    if (current === this.#currentStream && current.lossReason !== undefined) this.#lose(current.lossReason)
  }

  /**
   * Makes a call once. The call ends together with the stream, whatever the transport does. When an answer
   * takes too long, the stream is abandoned, so that no other call waits behind this one.
   */
  #call(call: StreamCall, body: JsonText): Effect.Effect<unknown, IronflowError> {
    return Effect.suspend((): Effect.Effect<unknown, IronflowError> => {
      const current = this.#currentStream
      if (current === undefined) {
        return Effect.fail(
          sessionOverError(
            `Worker ${this.link.registration.workerId} has no stream to the Ironflow server at ${this.link.options.server.url}`
          )
        )
      }
      const ended = Deferred.await(current.ended)
      // a transport that was closed may interrupt its calls: then `ended` has the reason
      const answer = Effect.catchCause(
        current.stream.call(call, body),
        (cause): Effect.Effect<unknown, IronflowError> =>
          Cause.hasInterruptsOnly(cause) ? ended : Effect.failCause(cause)
      )
      const { heartbeatMs } = this.link.options
      // a heartbeat, which is a call of `room`, notices a dead stream within one heartbeat interval: half of the
      // interval is for the wait until the next heartbeat, and half for the answer
      const patienceMs = Math.floor(
        call === "room" ? Math.min(this.answerTimeoutMs, heartbeatMs / 2) : this.answerTimeoutMs
      )
      return timeoutOrElse(Effect.raceFirst(answer, ended), patienceMs, () => {
        const noAnswer = new ConnectionError(
          `The stream to the Ironflow server at ${this.link.options.server.url} has been silent for ${showMs(patienceMs)}, although the worker waits for an answer`
        )
        if (this.#currentStream === current) this.#lose(noAnswer)
        return Effect.fail(sessionOverError(noAnswer.message, noAnswer))
      })
    })
  }

  /**
   * Sends a heartbeat, with the running steps and the requested jobs. When the answer does not come in time, the stream
   * counts as lost.
   */
  readonly #sendHeartbeat: Effect.Effect<void> = Effect.suspend(() => {
    const { session } = this
    const sentAt = monotonicMs(this.link.clock)
    // Set also when no heartbeat is sent, because there is no session: `#keepAlive` counts its next wait from this
    // time, and would otherwise not wait at all while the server cannot be reached.
    this.#heartbeatAt = sentAt
    if (session === undefined) return Effect.void
    const renewal = this.renewalFields()
    return this.#call(
      "room",
      `{"session":${JSON.stringify(session)},"seen":${this.seen},${this.roomFields()}${renewal}}`
    ).pipe(
      Effect.matchEffect({
        onSuccess: () =>
          Effect.sync(() => {
            this.noteRenewal(sentAt, renewal)
            if (session === this.session) this.noteAnswer()
          }),
        onFailure: (error) =>
          Effect.sync(() => {
            if (session !== this.session || this.handleFailure(session, error)) return
            if (error instanceof ConnectionError) this.#lose(error)
            else this.link.options.logger.warn(error.message)
          })
      }),
      // a bug in the transport: another stream may work, and without heartbeats the leases would run out
      Effect.catchDefect((cause) =>
        Effect.sync(() =>
          this.#lose(
            new ConnectionError(
              "The stream to the Ironflow server broke because of a bug: please report this",
              { cause }
            )
          )
        )
      )
    )
  })

  readonly #keepAlive: Effect.Effect<void> = Effect.suspend(() => {
    const beatMs = Math.min(this.renewalIntervalMs, this.link.options.heartbeatMs / 2)
    // after a time in which the process was blocked, the next heartbeat is sent at once
    return Effect.sleep(Math.max(0, this.#heartbeatAt + beatMs - monotonicMs(this.link.clock)))
  }).pipe(Effect.andThen(this.#sendHeartbeat), Effect.forever)

  #lose(reason: ConnectionError): void {
    const { session } = this
    if (session === undefined) return
    this.link.fork(this.#closeCurrent)
    this.registerAgain(session, reason)
  }

  readonly #closeCurrent: Effect.Effect<void> = Effect.suspend(() => {
    const current = this.#currentStream
    this.#currentStream = undefined
    if (current === undefined) return Effect.void
    const { url } = this.link.options.server
    const what = `A call of worker ${this.link.registration.workerId} was not answered: the stream to ${url} is over`
    // done before the transport is closed, so that callers which wait for an answer learn why there is none
    Deferred.doneUnsafe(current.ended, Exit.fail(sessionOverError(what, current.lossReason)))
    return Scope.close(current.scope, Exit.void)
  })
}
