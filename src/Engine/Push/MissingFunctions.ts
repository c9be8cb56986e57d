/**
 * The functions that are registered for a push endpoint and that its app does not have, as after a deployment without them. Their
 * runs wait without a loss, and the other functions of the endpoint go on. The endpoint is asked for its description until it
 * names them again.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { FIRST_PROBE_MS, nextProbeMs } from "./Availability.ts"
import type { EndpointDescription } from "./Answers.ts"

export interface MissingFunctionsOptions {
  readonly url: string
  /** Runs an effect in the background, as long as the engine lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly describe: Effect.Effect<EndpointDescription, unknown>
  /** Called with the reason when a function gets no turns any more, and without a reason when it gets turns again. */
  readonly onChange: (functionId: string, problem: string | undefined) => void
}

export class MissingFunctions {
  readonly #options: MissingFunctionsOptions
  /** Why each missing function gets no turns, by function id. */
  readonly #problems = new Map<string, string>()
  /** Functions that a description has named again, and of which no turn was run yet. */
  readonly #untried = new Set<string>()
  /** The delay before the next request for a description, in milliseconds. */
  #probeMs = FIRST_PROBE_MS
  #probing: Fiber.Fiber<void> | undefined

  constructor(options: MissingFunctionsOptions) {
    this.#options = options
  }

  /** Why each missing function gets no turns, by function id. */
  get problems(): ReadonlyMap<string, string> {
    return this.#problems
  }

  /** Notes that the app does not have these functions. */
  lacks(functionIds: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { onChange, url } = this.#options
      const added = functionIds.filter((id) => !this.#problems.has(id))
      if (added.length === 0) return Effect.void
      // an untried function that is missing again is no news: several instances answer at the URL, and not all of them have it. Such
      // a function is tried less and less often
      const news = added.filter((id) => !this.#untried.delete(id))
      if (news.length > 0) this.#probeMs = FIRST_PROBE_MS
      for (const id of added) {
        const problem = problemOf(url, id)
        this.#problems.set(id, problem)
        onChange(id, problem)
      }
      if (news.length > 0 || this.#probing === undefined) this.#probe()
      return Effect.forEach(
        news,
        (id) =>
          Effect.logWarning(
            `${problemOf(url, id)}. The runs of this function wait, and the engine keeps trying`
          ),
        { discard: true }
      )
    })
  }

  /** Notes that the app has these functions, because it describes them. */
  has(functionIds: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { onChange, url } = this.#options
      const found = functionIds.filter((id) => this.#problems.delete(id))
      for (const id of found) {
        this.#untried.add(id)
        onChange(id, undefined)
      }
      return found.length === 0
        ? Effect.void
        : Effect.logInfo(`The endpoint ${url} has ${found.map((id) => `"${id}"`).join(", ")} again`)
    })
  }

  /** Forgets all functions that are no longer registered for the endpoint, and goes on asking for the others. */
  keepOnly(functionIds: ReadonlySet<string>): void {
    for (const id of [...this.#problems.keys(), ...this.#untried]) {
      if (functionIds.has(id)) continue
      this.#problems.delete(id)
      this.#untried.delete(id)
    }
    if (this.#problems.size > 0 && this.#probing === undefined) this.#probe()
  }

  /** Notes that the app has run a turn of the function. */
  ran(functionId: string): void {
    this.#untried.delete(functionId)
  }

  /** Stops asking for the description. */
  stop(): void {
    this.#probing?.interruptUnsafe()
    this.#probing = undefined
  }

  #probe(): void {
    this.stop()
    this.#probing = this.#options.fork(this.#untilNoneIsMissing)
  }

  /** Asks for the description until it names all missing functions. */
  readonly #untilNoneIsMissing: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#problems.size === 0) {
      this.#probing = undefined
      return Effect.void
    }
    const delayMs = this.#probeMs
    this.#probeMs = nextProbeMs(delayMs)
    return Effect.andThen(Effect.delay(this.#look, delayMs), this.#untilNoneIsMissing)
  })

  readonly #look: Effect.Effect<void> = Effect.suspend(() =>
    Effect.matchEffect(this.#options.describe, {
      // only a turn can show which functions a handler of another package has
      onSuccess: ({ functions, turns }) =>
        this.has(turns === true ? idsOf(functions) : [...this.#problems.keys()]),
      // an endpoint that cannot be reached gets no turns in any case
      onFailure: () => Effect.void
    })
  )
}

const idsOf = (functions: EndpointDescription["functions"]): ReadonlyArray<string> =>
  functions.flatMap((fn) => (typeof fn?.id === "string" ? [fn.id] : []))

const problemOf = (url: string, functionId: string): string =>
  `The app at the endpoint ${url} has no function "${functionId}": deploy it there again, or register an endpoint or a worker that has it`
