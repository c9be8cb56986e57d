/** Small Promise helpers for users. */
import { longestTimerMs } from "./Duration.ts"

/** A promise with the functions that settle it. */
export interface Deferred<T> {
  /** The promise. */
  readonly promise: Promise<T>
  /** Resolves the promise. Only the first call of `resolve` or `reject` has an effect. */
  readonly resolve: (value: T | PromiseLike<T>) => void
  /** Rejects the promise. Only the first call of `resolve` or `reject` has an effect. */
  readonly reject: (reason?: unknown) => void
}

/** Creates a promise that is settled from outside. */
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
export const sleep = async (ms: number): Promise<void> => {
  // a plain timer, since Effect's clock would load the Effect runtime
  for (let left = ms; left > 0; left -= longestTimerMs) {
    await new Promise<void>((resolve) => setTimeout(resolve, Math.min(left, longestTimerMs)))
  }
}
