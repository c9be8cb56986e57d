/** Runs each scenario twice, with an async handler and with an Effect handler, and with the same assertions. */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import {
  createFunction,
  type EffectFunctionContext,
  type FunctionConfig,
  type FunctionContext,
  make
} from "../../src/Function.ts"
import { Step } from "../../src/effect.ts"
import type { StepRunContext } from "../../src/Step.ts"
import { type SelfContained, World, type WorldOptions } from "./World.ts"

type Style = "promise" | "effect"

interface Held {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}

/** What handlers and assertions share. It survives restarts, as the outside world does. */
export class Stage {
  /** What happened, in order. */
  readonly log: Array<string> = []
  readonly #held = new Map<string, Held>()

  /** Logs the name and returns the value: the code of a step. */
  does<T>(name: string, value: T): T {
    this.log.push(name)
    return value
  }

  /** Logs the name and stays pending until released. A later call under the same name takes over. */
  hold<T = unknown>(name: string): Promise<T> {
    this.log.push(name)
    return new Promise<T>((resolve, reject) => {
      this.#held.set(name, { resolve: resolve as (value: unknown) => void, reject })
    })
  }

  /** Like {@link hold}; rejects when the signal aborts, and logs the name of the reason. */
  holdUntilAborted<T = unknown>(name: string, signal: AbortSignal): Promise<T> {
    const held = this.hold<T>(name)
    signal.addEventListener("abort", () => {
      this.log.push(`${name} aborted: ${(signal.reason as Error).name}`)
      if (this.isHeld(name)) this.fail(name, signal.reason)
    })
    return held
  }

  isHeld(name: string): boolean {
    return this.#held.has(name)
  }

  release(name: string, value?: unknown): void {
    this.#take(name).resolve(value)
  }

  fail(name: string, error: unknown): void {
    this.#take(name).reject(error)
  }

  /** How often something happened. */
  count(name: string): number {
    return this.log.filter((line) => line === name).length
  }

  #take(name: string): Held {
    const held = this.#held.get(name)
    if (held === undefined) throw new Error(`"${name}" is not held; so far: ${this.log.join(", ")}`)
    this.#held.delete(name)
    return held
  }
}

/** Code that may be async, as an effect that fails with what the code throws. */
export const effectOf = <T>(code: () => T | Promise<T>): Effect.Effect<T, unknown> =>
  Effect.tryPromise({ try: async () => code(), catch: (error) => error })

/** The code of a step, as an effect. */
export const bodyOf = <T>(
  code: (context: StepRunContext) => T | Promise<T>
): Effect.Effect<T, unknown, Step.StepAttempt> =>
  Effect.flatMap(Step.StepAttempt, (context) => effectOf(() => code(context)))

export interface Part {
  readonly config?: Partial<Omit<FunctionConfig, "onFailure">>
  readonly promise: (stage: Stage) => (context: FunctionContext) => unknown
  readonly effect: (
    stage: Stage
    // oxlint-disable-next-line typescript/no-explicit-any -- events and failures differ from scenario to scenario
  ) => (context: EffectFunctionContext<any>) => Effect.Effect<unknown, any, Step.Step>
}

export interface Story extends Part {
  /** Functions beside `order`, by their ids; they have no triggers unless configured. */
  readonly also?: { readonly [id: string]: Part }
  readonly world?: Omit<WorldOptions, "functions">
}

interface Given {
  readonly world: World
  readonly client: World["client"]
  readonly stage: Stage
  readonly log: Array<string>
  readonly style: Style
  /** Makes a function in the current style: by default `order`, which `order.placed` triggers. */
  readonly toFunction: (part: Part, id?: string) => SelfContained
}

const makeFunction = (style: Style, stage: Stage, part: Part, id: string): SelfContained => {
  const config = {
    id,
    triggers: id === "order" ? [{ event: "order.placed" }] : [],
    ...part.config
  }
  return style === "promise" ? createFunction(config, part.promise(stage)) : make(config, part.effect(stage))
}

type Assertions = (given: Given) => Effect.Effect<void, unknown, Scope.Scope>

const runScenario = (story: Story, style: Style, assertions: Assertions) =>
  Effect.gen(function* () {
    const stage = new Stage()
    const toFunction = (part: Part, id = "order") => makeFunction(style, stage, part, id)
    const others = Object.entries(story.also ?? {}).map(([id, part]) => toFunction(part, id))
    const world = yield* World.make({ ...story.world, functions: [toFunction(story), ...others] })
    yield* assertions({
      world,
      stage,
      style,
      toFunction,
      log: stage.log,
      get client() {
        return world.client
      }
    })
  })

/** Runs the scenario in both styles. */
export const scenario = (title: string, story: Story, assertions: Assertions): void => {
  for (const style of ["promise", "effect"] as const) {
    it.effect(`${title} (${style})`, () => runScenario(story, style, assertions))
  }
}
