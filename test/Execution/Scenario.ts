/** Scenarios that are written twice: with an async handler and with an Effect handler. */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  type AnyFunction,
  createFunction,
  type EffectFunctionContext,
  type FunctionConfig,
  type FunctionContext,
  make
} from "../../src/Function.ts"
import type { Step } from "../../src/Step.ts"
import { ScriptedEngine } from "./ScriptedEngine.ts"

/** What a handler shares with its test. */
export class Probe {
  readonly engine: ScriptedEngine
  /** The names of what has happened, in order. */
  readonly log: Array<string> = []
  readonly #held = new Map<string, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>()

  constructor(engine: ScriptedEngine) {
    this.engine = engine
  }

  /** The code of a step. It logs its name, and checks that everything before it is durable. */
  code<T>(name: string, value: T): () => Promise<T> {
    return async () => {
      this.enter(name)
      return value
    }
  }

  enter(name: string): void {
    this.engine.assertDurable()
    this.log.push(name)
  }

  /** A promise that stays pending until the test releases it. */
  hold<T = unknown>(name: string): Promise<T> {
    this.log.push(name)
    return new Promise<T>((resolve, reject) => {
      this.#held.set(name, { resolve: resolve as (value: unknown) => void, reject })
    })
  }

  /** Whether the promise of this name is pending. */
  isHeld(name: string): boolean {
    return this.#held.has(name)
  }

  release(name: string, value?: unknown): void {
    this.#take(name).resolve(value)
  }

  fail(name: string, error: unknown): void {
    this.#take(name).reject(error)
  }

  #take(name: string) {
    const held = this.#held.get(name)
    if (held === undefined) throw new Error(`"${name}" is not held`)
    this.#held.delete(name)
    return held
  }
}

/** A promise of the probe as an effect. It fails with the error of the promise. */
export const attempt = <T>(promise: () => Promise<T> | T): Effect.Effect<T, unknown> =>
  Effect.tryPromise({ try: async () => await promise(), catch: (error) => error })

type Config = Omit<FunctionConfig, "id" | "triggers" | "onFailure">

export interface Scenario {
  readonly config?: Config
  readonly promise: (probe: Probe) => (context: FunctionContext) => unknown
  // oxlint-disable-next-line typescript/no-explicit-any -- events and failures differ from scenario to scenario
  readonly effect: (
    probe: Probe
  ) => (context: EffectFunctionContext<any>) => Effect.Effect<unknown, any, Step>
}

export type Test = (given: {
  readonly engine: ScriptedEngine
  readonly probe: Probe
  readonly log: Array<string>
  readonly fn: AnyFunction
  readonly style: "promise" | "effect"
}) => Promise<void>

/** Defines a test for the promise handler and for the Effect handler. */
export const both = (title: string, scenario: Scenario, test: Test): void => {
  for (const style of ["promise", "effect"] as const) {
    it.effect(`${title} (${style})`, () =>
      Effect.gen(function* () {
        const engine = yield* ScriptedEngine.make
        const probe = new Probe(engine)
        const config = { id: "order", triggers: [], ...scenario.config }
        const fn =
          style === "promise"
            ? createFunction(config, scenario.promise(probe))
            : make(config, scenario.effect(probe))
        yield* Effect.promise(() => test({ engine, probe, log: probe.log, fn, style }))
      })
    )
  }
}

/** Defines a test for one handler. */
export const only = (
  title: string,
  define: (probe: Probe) => AnyFunction,
  test: (given: Omit<Parameters<Test>[0], "style">) => Promise<void>
): void => {
  it.effect(title, () =>
    Effect.gen(function* () {
      const engine = yield* ScriptedEngine.make
      const probe = new Probe(engine)
      yield* Effect.promise(() => test({ engine, probe, log: probe.log, fn: define(probe) }))
    })
  )
}
