/**
 * A store whose databases are in another thread. Programs are sent there by name, with plain arguments. It is not
 * shipped. It shows that a driver may run elsewhere: no argument and no result of a program refers to objects of its
 * caller.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { isDeepStrictEqual } from "node:util"
import { Worker } from "node:worker_threads"
import type { Changes } from "../../../src/Engine/Store/Changes.ts"
import type { Call } from "../../../src/Engine/Store/Program.ts"
import { type ListenOptions, Store } from "../../../src/Engine/Store/Store.ts"
import { deserializeError, type SerializedError, type StoreError } from "../../../src/Errors.ts"
import { quickFile } from "./OnFile.ts"
import { fromPlain, toPlain } from "./Plain.ts"

/** The time on the clock. */
export interface Moment {
  readonly ms: number
  readonly monotonicNs: bigint
}

type Order =
  | { readonly _tag: "Open"; readonly filename: string; readonly seed: number }
  | { readonly _tag: "Close" }
  | { readonly _tag: "Listen"; readonly options: ListenOptions }
  | {
      readonly _tag: "Run"
      readonly how: "write" | "read" | "readApart"
      readonly name: string
      readonly args: ReadonlyArray<unknown>
    }

export type ToThread = Order & { readonly id: number; readonly database: number; readonly now: Moment }

export type Answer =
  | { readonly _tag: "Value"; readonly value: unknown }
  | { readonly _tag: "Refusal"; readonly error: SerializedError }
  | { readonly _tag: "Fault"; readonly message: string }

export type FromThread =
  | { readonly _tag: "Answered"; readonly id: number; readonly answer: Answer }
  | { readonly _tag: "Committed"; readonly database: number; readonly changes: unknown }

class Thread {
  readonly #worker = new Worker(new URL("files/Thread.ts", import.meta.url), {
    execArgv: [...process.execArgv, `--import=${new URL("files/sooner.ts", import.meta.url).href}`]
  })
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  readonly #listeners = new Map<number, (changes: Changes) => void>()
  /** Orders of one turn of the event loop are sent together, so that they may share a commit. */
  readonly #orders: Array<ToThread> = []
  #last = 0
  /** Why it answers nothing more. */
  #failure: Answer | undefined

  constructor() {
    this.#worker.unref()
    this.#worker.on("message", (message: FromThread) => {
      // answers and notifications of commits come from the store in the thread
      switch (message._tag) {
        case "Answered":
          return this.#answer(message.id, message.answer)
        case "Committed":
          return this.#listeners.get(message.database)?.(fromPlain(message.changes) as Changes)
      }
    })
    const fail = (error: Error): void => {
      this.#failure ??= { _tag: "Fault", message: `The thread has failed: ${error.stack ?? error.message}` }
      for (const id of this.#waiting.keys()) this.#answer(id, this.#failure)
    }
    this.#worker.on("error", fail)
    this.#worker.on("messageerror", fail)
    this.#worker.on("exit", (code) => fail(new Error(`it ended with ${code}`)))
  }

  /** A new number for a database or an order. */
  next(): number {
    return ++this.#last
  }

  listen(database: number, listener: (changes: Changes) => void): void {
    this.#listeners.set(database, listener)
  }

  forget(database: number): void {
    this.#listeners.delete(database)
  }

  post(database: number, now: Moment, order: Order, onAnswer: (answer: Answer) => void): void {
    if (this.#failure !== undefined) return onAnswer(this.#failure)
    const id = this.next()
    this.#waiting.set(id, onAnswer)
    this.#orders.push({ ...order, id, database, now })
    if (this.#orders.length === 1) setImmediate(() => this.#worker.postMessage(this.#orders.splice(0)))
  }

  stop(): Promise<unknown> {
    return this.#worker.terminate()
  }

  #answer(id: number, answer: Answer): void {
    const onAnswer = this.#waiting.get(id)
    this.#waiting.delete(id)
    onAnswer?.(answer)
  }
}

/** One thread serves all tests, because loading the engine takes longer than most of them. */
let thread: Thread | undefined

export const stopThread = async (): Promise<void> => {
  await thread?.stop()
  thread = undefined
}

const make = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  const seed = yield* Random.next
  const filename = yield* quickFile
  const { database, worker } = yield* Effect.sync(() => {
    const worker = (thread ??= new Thread())
    return { worker, database: worker.next() }
  })
  const listeners = new Set<{
    readonly listener: (changes: Changes) => void
    readonly options: ListenOptions
  }>()

  const ask = <A, E = never>(order: () => Order): Effect.Effect<A, E | StoreError> =>
    Effect.callback((resume) => {
      const now = {
        ms: clock.currentTimeMillisUnsafe(),
        monotonicNs: clock.monotonicTimeNanosUnsafe()
      }
      worker.post(database, now, order(), (answer) => {
        switch (answer._tag) {
          // the thread ran the program of this name, so the result has its type
          case "Value":
            return resume(Effect.succeed(fromPlain(answer.value) as A))
          case "Refusal":
            return resume(Effect.fail(deserializeError(answer.error) as E & Error))
          case "Fault":
            return resume(Effect.die(new Error(answer.message)))
        }
      })
    })
  const run =
    (how: "write" | "read" | "readApart") =>
    <A, E>({ args, name }: Call<A, E>): Effect.Effect<A, E | StoreError> =>
      ask<A, E>(() => ({
        _tag: "Run",
        how,
        name,
        args: args.map((arg, index) => toPlain(`Argument ${index + 1} of "${name}"`, arg))
      }))
  const readyListeners = new Set<() => void>()
  let wanted: ListenOptions = {}
  /** Tells the thread what all listeners together want to know. */
  const tell = (): void => {
    const all = [...listeners].map(({ options }) => options)
    const activity = all.some((one) => one.activity === "steps")
      ? "steps"
      : all.find((one) => one.activity !== undefined)?.activity
    const options = {
      ...(activity === undefined ? {} : { activity }),
      ...(all.some(({ states }) => states === true) ? { states: true } : {})
    }
    if (isDeepStrictEqual(options, wanted)) return
    wanted = options
    Effect.runFork(ask(() => ({ _tag: "Listen", options })))
  }

  worker.listen(database, (changes) => {
    const isObserver = ({ options }: { readonly options: ListenOptions }) => options.activity !== undefined
    for (const one of listeners) if (isObserver(one)) one.listener(changes)
    for (const one of listeners) if (!isObserver(one)) one.listener(changes)
    // what these listeners write goes into another commit, because this one has already ended in the thread
    if (changes.ready) for (const listener of readyListeners) listener()
  })
  yield* Effect.acquireRelease(
    ask<void>(() => ({ _tag: "Open", filename, seed })),
    () =>
      Effect.gen(function* () {
        const changed = yield* Effect.orDie(ask<ReadonlyArray<string>>(() => ({ _tag: "Close" })))
        worker.forget(database)
        if (changed.length > 0) {
          throw new Error(`Changed after it was given away: ${[...new Set(changed)].join(", ")}`)
        }
      })
  )

  return Store.of({
    write: run("write"),
    read: run("read"),
    readApart: run("readApart"),
    onCommit: (listener, options = {}) => {
      const one = { listener, options }
      listeners.add(one)
      tell()
      return () => {
        listeners.delete(one)
        tell()
      }
    },
    onReady: (listener) => {
      readyListeners.add(listener)
      return () => void readyListeners.delete(listener)
    },
    // nobody takes over a file of a test
    onLost: () => () => undefined,
    health: () => ({ status: "ok" })
  })
})

/** A store in the other thread, on a file of its own. */
export const layerThread: Layer.Layer<Store, StoreError> = Layer.effect(Store, make)
