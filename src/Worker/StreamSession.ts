/**
 * The session of a worker over a stream: calls up, deliveries down, and a new stream when one is lost. The rules are in
 * `Protocol/TurnStream.ts`.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { ConnectionError, type IronflowError, TimeoutError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import type * as Turns from "../Protocol/Http/Turns.ts"
import type { Push, StreamCall } from "../Protocol/TurnStream.ts"
import type { JsonText } from "../Protocol/Worker.ts"
import { readRegistered, type Registered, registrationOf } from "./PollingRegistration.ts"
import { monotonicMs, type ServerLink } from "./ServerLink.ts"
import { type Batch, farewellTimeoutMs, TurnSession } from "./TurnSession.ts"

/** A stream that is open. It closes with the scope that it was opened in. */
export interface OpenStream {
  /** Makes a call once. Fails with code `WORKER_UNKNOWN` when the stream is lost before it is answered. */
  readonly call: (call: StreamCall, body: JsonText) => Effect.Effect<unknown, IronflowError>
}

/** What becomes of a stream. */
export interface StreamEvents {
  /** The engine has pushed something, as parsed JSON. Not called before `open` has ended. */
  readonly onPush: (push: unknown) => void
  /** The stream has ended, for whatever reason; not called when its scope was closed. */
  readonly onLost: (reason: ConnectionError) => void
}

/** One way to open streams. */
export interface Streams {
  /** As it is called in messages: `rpc`. */
  readonly name: string
  /** Opens a stream with a registration, and waits for the answer. */
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

/** A stream with what belongs to it. */
interface Current {
  readonly stream: OpenStream
  readonly scope: Scope.Closeable
  readonly registered: Registered
  lost: ConnectionError | undefined
}

/** Opens a stream and registers the worker on it. */
export const openStream = (
  link: ServerLink,
  streams: Streams,
  instance: string,
  jobs: ReadonlyArray<string>,
  events: { readonly onPush: (push: unknown) => void; readonly onLost: (current: Current) => void }
): Effect.Effect<Current, IronflowError> =>
  Effect.suspend(() => {
    const { registration, options } = link
    const scope = Scope.makeUnsafe()
    let current: Current | undefined
    let lost: ConnectionError | undefined
    const waiting: Array<unknown> = []
    const what = `The registration of worker ${registration.workerId}`
    const opening = streams.open(link, JSON.stringify(registrationOf(link, instance, jobs)), {
      onPush: (push) => {
        if (current === undefined) waiting.push(push)
        else events.onPush(push)
      },
      onLost: (reason) => {
        lost ??= reason
        if (current === undefined || current.lost !== undefined) return
        current.lost = reason
        events.onLost(current)
      }
    })
    return opening.pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: options.server.timeoutMs,
        orElse: () =>
          Effect.fail(
            new TimeoutError(
              `${what} got no answer from ${options.server.url} within ${options.server.timeoutMs}ms`,
              options.server.timeoutMs
            )
          )
      }),
      Effect.onError(() => Scope.close(scope, Exit.void)),
      Effect.map(({ registered, stream }) => {
        current = { stream, scope, registered: readRegistered(registered), lost }
        // in the order in which they came, and not before whoever asked has the answer
        queueMicrotask(() => waiting.forEach(events.onPush))
        return current
      })
    )
  })

export class StreamSession extends TurnSession {
  readonly #streams: Streams
  #current: Current | undefined
  #tellingRoom = false

  /** Opens the first stream; `undefined` when the server does not exchange turns over it. */
  static open(
    link: ServerLink,
    streams: Streams,
    instance: string
  ): Effect.Effect<StreamSession | undefined, IronflowError> {
    return Effect.suspend(() => {
      let session: StreamSession | undefined
      const sentAt = monotonicMs(link.clock)
      const opening = openStream(link, streams, instance, [], {
        onPush: (push) => session?.onPush(push),
        onLost: (current) => session?.onLost(current)
      })
      return Effect.flatMap(opening, (current) => {
        const { registered, scope } = current
        if (registered === undefined) return Effect.as(Scope.close(scope, Exit.void), undefined)
        session = new StreamSession(link, instance, registered, sentAt, streams, current)
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
    current: Current
  ) {
    super(link, instance, terms, sentAt)
    this.#streams = streams
    this.#current = current
  }

  override start(): void {
    super.start()
    this.link.fork(this.#keepAlive)
    const lost = this.#current?.lost
    if (lost !== undefined) this.#lose(lost)
  }

  readonly deregister: Effect.Effect<void> = Effect.suspend(() => {
    const current = this.#current
    if (current === undefined) return Effect.void
    const farewell =
      this.session === undefined || this.isRefused
        ? Effect.void
        : current.stream.call("leave", JSON.stringify({ session: this.session })).pipe(
            Effect.timeoutOption(farewellTimeoutMs),
            Effect.catch((error) =>
              Effect.sync(() =>
                this.link.options.logger.debug(
                  `${error.message}. The server finds out by itself that the worker is gone`
                )
              )
            )
          )
    this.session = undefined
    return Effect.andThen(farewell, Scope.close(current.scope, Exit.void))
  })

  protected register(jobs: ReadonlyArray<string>): Effect.Effect<Registered, IronflowError> {
    const opening = openStream(this.link, this.#streams, this.instance, jobs, {
      onPush: (push) => this.onPush(push),
      onLost: (current) => this.onLost(current)
    })
    return Effect.andThen(
      this.#closeCurrent(),
      Effect.map(opening, (current) => {
        this.#current = current
        return current.registered
      })
    )
  }

  protected override resumed(): void {
    const lost = this.#current?.lost
    if (lost !== undefined) this.#lose(lost)
    else this.tellRoom()
  }

  protected sendBatch(session: string, batch: Batch): Effect.Effect<unknown, IronflowError> {
    return Effect.suspend(() =>
      this.#call(
        "report",
        `{"session":${JSON.stringify(session)},"batch":${batch.number},${this.room()},"reports":${batch.text}}`
      )
    )
  }

  protected sendLate(request: Turns.LateRequest): Effect.Effect<void, IronflowError> {
    return Effect.asVoid(this.#call("late", JSON.stringify(request)))
  }

  protected tellRoom(): void {
    // one at a time: the next one says what has changed since
    if (this.#tellingRoom || this.session === undefined) return
    this.#tellingRoom = true
    this.link.fork(
      Effect.ensuring(
        this.#showLife,
        Effect.sync(() => {
          this.#tellingRoom = false
          if (!this.isRoomKnown) this.tell()
        })
      )
    )
  }

  onPush(push: unknown): void {
    if (!isObject(push) || !Array.isArray(push.deliveries)) return
    // what our engine pushes is as the protocol says
    const { closing, deliveries } = push as unknown as Exclude<Push, { readonly registered: unknown }>
    this.deliver(deliveries)
    if (closing === true) this.failed(this.closing)
  }

  onLost(current: Current): void {
    if (current === this.#current && current.lost !== undefined) this.#lose(current.lost)
  }

  #call(call: StreamCall, body: JsonText): Effect.Effect<unknown, IronflowError> {
    return Effect.suspend(() => {
      const { stream } = this.#current ?? {}
      return stream === undefined
        ? Effect.fail(new ConnectionError("There is no stream to the Ironflow server"))
        : stream.call(call, body)
    })
  }

  /**
   * How often the worker shows life, and how long it waits for the answer: a lost stream is noticed within a heartbeat
   * interval, and the leases hold when one sign of life is lost.
   */
  get #beatMs(): number {
    return Math.max(1, Math.floor(Math.min(this.terms.leaseMs / 4, this.link.options.heartbeatMs / 2)))
  }

  /** Says that the worker lives and how much room it has. A stream that does not answer in time is lost. */
  readonly #showLife: Effect.Effect<void> = Effect.suspend(() => {
    const { session } = this
    if (session === undefined) return Effect.void
    const sentAt = monotonicMs(this.link.clock)
    const beatMs = this.#beatMs
    return this.#call("room", `{"session":${JSON.stringify(session)},${this.room()}}`).pipe(
      Effect.timeoutOrElse({
        duration: beatMs,
        orElse: () =>
          Effect.fail(
            new ConnectionError(
              `The stream to the Ironflow server at ${this.link.options.server.url} has been silent for ${beatMs}ms`
            )
          )
      }),
      Effect.matchEffect({
        onSuccess: () =>
          Effect.sync(() => {
            this.held(sentAt)
            if (session === this.session) this.answered()
          }),
        onFailure: (error) =>
          Effect.sync(() => {
            if (session !== this.session || this.rejected(session, error)) return
            if (error instanceof ConnectionError) this.#lose(error)
            else this.link.options.logger.warn(error.message)
          })
      })
    )
  })

  readonly #keepAlive: Effect.Effect<void> = Effect.suspend(() =>
    Effect.andThen(
      Effect.sleep(this.#beatMs),
      Effect.suspend(() => Effect.andThen(this.#showLife, this.#keepAlive))
    )
  )

  #lose(reason: ConnectionError): void {
    const { session } = this
    if (session === undefined) return
    this.link.fork(this.#closeCurrent())
    this.registerAgain(session, reason)
  }

  #closeCurrent(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const current = this.#current
      this.#current = undefined
      return current === undefined ? Effect.void : Scope.close(current.scope, Exit.void)
    })
  }
}
