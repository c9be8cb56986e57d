/** Small Promise tools for users. */
import * as Effect from "effect/Effect"

/** A promise together with what settles it. */
export interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T | PromiseLike<T>) => void
  readonly reject: (reason?: unknown) => void
}

export const createDeferred = <T = void>(): Deferred<T> => {
  let resolve!: Deferred<T>["resolve"]
  let reject!: Deferred<T>["reject"]
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue
    reject = onError
  })
  return { promise, resolve, reject }
}

/** Resolves after `ms` milliseconds. Not durable: in a handler use `step.sleep`. */
export const sleep = (ms: number): Promise<void> => Effect.runPromise(Effect.sleep(ms))
