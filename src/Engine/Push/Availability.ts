/** Whether a push endpoint can be reached, and what it is: it is asked until it answers, and while it does not it takes no runs. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { type IronflowError, isIronflowError } from "../../Errors.ts"
import { describeRequest } from "../../Protocol/Push.ts"
import { type Described, readDescription, unavailable } from "./Answers.ts"
import { type EndpointTarget, postTo } from "./EndpointRequest.ts"
import type { PostError } from "./HttpPost.ts"

/** How long a description may take, milliseconds. */
const DESCRIBE_MS = 10_000

/** Bytes of a description: several times what may be registered of it. */
const DESCRIPTION_BYTES = 4 * 1024 * 1024
/** Waits between attempts to reach an endpoint: doubling up to a second, then a fifth longer each time. */
const FIRST_PROBE_MS = 250
const LONGEST_PROBE_MS = 30_000
/** How often it is looked whether another engine asks it, milliseconds. */
const ELSEWHERE_LOOK_MS = 1000

export interface AvailabilityOptions extends EndpointTarget {
  readonly clock: Clock.Clock
  /** Runs an effect in the background, as long as the engine lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Is told whether it can be reached, and why it cannot. */
  readonly onChange: (isReachable: boolean, whyNot?: string) => void
  /** Whether another engine on the database asks it until it answers: this one waits for that. */
  readonly isAskedElsewhere: () => boolean
}

export class Availability {
  readonly #options: AvailabilityOptions
  #runsTurns: boolean | undefined
  #problem: string | undefined = "it has not been asked yet"
  #probing: Fiber.Fiber<void> | undefined
  /** The wait before the next attempt to reach it. */
  #probeMs = FIRST_PROBE_MS
  #isInDoubt = false
  #ranSegment = false

  constructor(options: AvailabilityOptions) {
    this.#options = options
  }

  /** Why nothing is sent to it now. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** The same for people who read of a run. */
  get whyNot(): string {
    return `The endpoint ${this.#options.url} is not available: ${this.#problem ?? "it has been closed"}`
  }

  /** Whether it runs whole turns, as far as is known. */
  get runsTurns(): boolean {
    return this.#runsTurns === true
  }

  /** Whether it is taken for one of another package without being known as one. */
  get isInDoubt(): boolean {
    return this.#isInDoubt
  }

  /** It has said before that it runs whole turns. */
  saidTurns(): void {
    this.#runsTurns ??= true
  }

  /** It has just answered; `undefined` when it is not known yet whether it runs turns. */
  answered(turns: boolean | undefined): void {
    this.stop()
    this.#runsTurns = turns
    this.#isInDoubt = turns === undefined
    this.#problem = undefined
    this.#options.onChange(true)
  }

  /** It has answered a turn. */
  tookTurn(): void {
    this.#probeMs = FIRST_PROBE_MS
  }

  /** It has answered a turn in the protocol of other packages. */
  ranSegment(): void {
    this.#ranSegment = true
  }

  /** It takes nothing now: it is tried until it does. */
  unavailable(problem: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const isNew = this.#problem === undefined
      this.#problem = problem
      this.#options.onChange(false, this.whyNot)
      if (!isNew) return Effect.void
      const isFirst = this.#probeMs === FIRST_PROBE_MS
      this.#probe(this.#probeMs)
      return isFirst ? Effect.logWarning(`${this.whyNot}. Its runs wait, and it is tried again`) : Effect.void
    })
  }

  /** Begins to ask it, unless it is there or is being asked. */
  start(): void {
    if (this.#problem !== undefined && this.#probing === undefined) this.#probe(0)
  }

  /** Asks it no more. */
  stop(): void {
    this.#probing?.interruptUnsafe()
    this.#probing = undefined
  }

  /** Of several engines one asks it until it answers, and the others follow. */
  readonly #myTurn: Effect.Effect<void> = Effect.suspend(() =>
    this.#options.isAskedElsewhere()
      ? Effect.andThen(Effect.sleep(ELSEWHERE_LOOK_MS), this.#myTurn)
      : Effect.void
  )

  /** Tries until it can be reached. */
  #probe(delayMs: number): void {
    const again = Math.min(Math.max(FIRST_PROBE_MS, delayMs * (delayMs < 1000 ? 2 : 1.2)), LONGEST_PROBE_MS)
    this.#probing = this.#options.fork(
      Effect.matchEffect(Effect.delay(Effect.andThen(this.#myTurn, this.ask), delayMs), {
        onSuccess: (turns) =>
          Effect.suspend(() => {
            this.#probing = undefined
            this.answered(turns)
            // only a turn shows whether it takes turns, or whether one of another package is there
            this.#probeMs = again
            return delayMs > 0 && turns !== undefined
              ? Effect.logInfo(`The endpoint ${this.#options.url} is available again`)
              : Effect.void
          }),
        onFailure: (error) =>
          Effect.suspend(() => {
            const isNew = delayMs === 0
            this.#problem = error.message
            this.#options.onChange(false, this.whyNot)
            this.#probe(again)
            return isNew
              ? Effect.logWarning(`${this.whyNot}. Its runs wait, and it is tried again`)
              : Effect.void
          })
      })
    )
  }

  /**
   * Whether it runs whole turns; `undefined` when its answer may come from one of this package that is not well. One that is
   * known to run turns is another one now only when it says so itself.
   */
  readonly ask: Effect.Effect<boolean | undefined, PostError | IronflowError> = Effect.suspend(() =>
    Effect.flatMap(this.describe, ({ doubt, turns }) => {
      if (turns !== undefined) return Effect.succeed(turns)
      if (this.#runsTurns !== true) {
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

  /** Asks the endpoint what it is. */
  readonly describe: Effect.Effect<Described, PostError | IronflowError> = Effect.suspend(() => {
    const request = describeRequest(this.#options.clock.currentTimeMillisUnsafe())
    return postTo(
      this.#options,
      { body: JSON.stringify(request), timeoutMs: DESCRIBE_MS, most: DESCRIPTION_BYTES },
      (answer): Effect.Effect<Described, IronflowError> => {
        const described = readDescription(answer)
        return isIronflowError(described) ? Effect.fail(described) : Effect.succeed(described)
      }
    )
  })
}
