/**
 * Whether a push endpoint can be reached, and whether it runs whole turns, as endpoints of this package do. While an endpoint
 * cannot be reached, it is probed, and gets no runs.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { type IronflowError, isIronflowError } from "../../Errors.ts"
import { describeRequest } from "../../Protocol/Push.ts"
import { type EndpointDescription, readDescription, unavailableError } from "./Answers.ts"
import { type EndpointTarget, postTo } from "./EndpointRequest.ts"
import type { PostError } from "./HttpPost.ts"

/** How long a description may take, in milliseconds. */
const DESCRIBE_MS = 10_000

/** Maximum number of bytes of a description: several times the size of the functions that may be registered from it. */
const DESCRIPTION_BYTES = 4 * 1024 * 1024
/**
 * The first delay between probes of an endpoint, in milliseconds. The delay doubles up to a second, and then grows by a fifth each
 * time.
 */
export const FIRST_PROBE_MS = 250
/** The longest delay between probes, in milliseconds. */
const LONGEST_PROBE_MS = 30_000
/** How often to check whether another engine still probes the endpoint, in milliseconds. */
const OTHER_PROBE_CHECK_MS = 1000

/** The delay before the next probe, when the last probe was delayed by `delayMs`. In milliseconds. */
export const nextProbeMs = (delayMs: number): number =>
  Math.min(Math.max(FIRST_PROBE_MS, delayMs * (delayMs < 1000 ? 2 : 1.2)), LONGEST_PROBE_MS)

export interface AvailabilityOptions extends EndpointTarget {
  readonly clock: Clock.Clock
  /** Runs an effect in the background, as long as the engine lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Called when the endpoint becomes reachable or unreachable, with the reason. */
  readonly onChange: (isReachable: boolean, whyNot?: string) => void
  /** Whether another engine on the database probes the endpoint. If so, this engine waits for the result. */
  readonly isProbedByOther: () => boolean
}

export class Availability {
  readonly #options: AvailabilityOptions
  #runsTurns: boolean | undefined
  #problem: string | undefined = "it has not been checked yet"
  #probeFiber: Fiber.Fiber<void> | undefined
  /** The delay before the next probe, in milliseconds. */
  #probeMs = FIRST_PROBE_MS
  #isInDoubt = false
  #hasRunSegment = false

  constructor(options: AvailabilityOptions) {
    this.#options = options
  }

  /** Why nothing is sent to the endpoint now; `undefined` when it is available. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** {@link problem} as a sentence, for the explanation of a run. */
  get whyNot(): string {
    return `The endpoint ${this.#options.url} is not available: ${this.#problem ?? "it has been closed"}`
  }

  /** Whether the endpoint runs whole turns, as far as is known. */
  get runsTurns(): boolean {
    return this.#runsTurns === true
  }

  /** Whether the endpoint is assumed, but not known, to be of another package. */
  get isInDoubt(): boolean {
    return this.#isInDoubt
  }

  /** Notes that the endpoint has said before that it runs whole turns. */
  noteRunsTurns(): void {
    this.#runsTurns ??= true
  }

  /** Notes that the endpoint has just answered. `turns`: whether it runs whole turns; `undefined` when that is not known yet. */
  noteAnswer(turns: boolean | undefined): void {
    this.stop()
    this.#runsTurns = turns
    this.#isInDoubt = turns === undefined
    this.#problem = undefined
    this.#options.onChange(true)
  }

  /** Notes that the endpoint has answered a turn. */
  noteTurnAnswer(): void {
    this.#probeMs = FIRST_PROBE_MS
  }

  /** Notes that the endpoint has answered a turn in the protocol of other packages. */
  noteSegmentAnswer(): void {
    this.#hasRunSegment = true
  }

  /** Marks the endpoint as unavailable, and probes it until it answers. */
  markUnavailable(problem: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const isNew = this.#problem === undefined
      this.#problem = problem
      this.#options.onChange(false, this.whyNot)
      if (!isNew) return Effect.void
      const isFirst = this.#probeMs === FIRST_PROBE_MS
      this.#probe(this.#probeMs)
      return isFirst
        ? Effect.logWarning(`${this.whyNot}. The runs of this endpoint wait, and the engine keeps trying`)
        : Effect.void
    })
  }

  /** Starts to probe the endpoint, unless it is available or is being probed. */
  start(): void {
    if (this.#problem !== undefined && this.#probeFiber === undefined) this.#probe(0)
  }

  /** Stops probing the endpoint. */
  stop(): void {
    this.#probeFiber?.interruptUnsafe()
    this.#probeFiber = undefined
  }

  /** Waits as long as another engine probes the endpoint. */
  readonly #awaitOtherProbe: Effect.Effect<void> = Effect.suspend(() =>
    this.#options.isProbedByOther()
      ? Effect.andThen(Effect.sleep(OTHER_PROBE_CHECK_MS), this.#awaitOtherProbe)
      : Effect.void
  )

  /** Probes the endpoint until it can be reached. */
  #probe(delayMs: number): void {
    const nextDelayMs = nextProbeMs(delayMs)
    this.#probeFiber = this.#options.fork(
      Effect.matchEffect(Effect.delay(Effect.andThen(this.#awaitOtherProbe, this.ask), delayMs), {
        onSuccess: (turns) =>
          Effect.suspend(() => {
            this.#probeFiber = undefined
            this.noteAnswer(turns)
            // an answer to a probe does not show that the endpoint accepts turns: probes keep the longer delay until the endpoint
            // has answered a turn
            this.#probeMs = nextDelayMs
            return delayMs > 0 && turns !== undefined
              ? Effect.logInfo(`The endpoint ${this.#options.url} is available again`)
              : Effect.void
          }),
        onFailure: (error) =>
          Effect.suspend(() => {
            const isNew = delayMs === 0
            this.#problem = error.message
            this.#options.onChange(false, this.whyNot)
            this.#probe(nextDelayMs)
            return isNew
              ? Effect.logWarning(
                  `${this.whyNot}. The runs of this endpoint wait, and the engine keeps trying`
                )
              : Effect.void
          })
      })
    )
  }

  /**
   * Asks the endpoint whether it runs whole turns. Returns `undefined` when the answer may come from an unhealthy endpoint of this
   * package. Fails when the endpoint is known to run whole turns, and its answer does not say whether it still does.
   */
  readonly ask: Effect.Effect<boolean | undefined, PostError | IronflowError> = Effect.suspend(() =>
    Effect.flatMap(this.describe, ({ doubt, turns }) => {
      if (turns !== undefined) return Effect.succeed(turns)
      if (this.#runsTurns !== true) {
        return Effect.succeed(doubt === undefined || this.#hasRunSegment ? false : undefined)
      }
      return Effect.fail(
        unavailableError(
          doubt ??
            "it answered requests for its description before, and no longer does. " +
              "If another handler has replaced it for good, remove the endpoint and register the new handler"
        )
      )
    })
  )

  /** Requests the endpoint's description. */
  readonly describe: Effect.Effect<EndpointDescription, PostError | IronflowError> = Effect.suspend(() => {
    const request = describeRequest(this.#options.clock.currentTimeMillisUnsafe())
    return postTo(
      this.#options,
      { body: JSON.stringify(request), timeoutMs: DESCRIBE_MS, maxBytes: DESCRIPTION_BYTES },
      (answer): Effect.Effect<EndpointDescription, IronflowError> => {
        const described = readDescription(answer)
        return isIronflowError(described) ? Effect.fail(described) : Effect.succeed(described)
      }
    )
  })
}
