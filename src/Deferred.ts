/** Small Promise tools for users. */
import { longestTimerMs } from "./Duration.ts"

/** A promise together with what settles it. */
export interface Deferred<T> {
  /** What is settled by the other two. */
  readonly promise: Promise<T>
  /** Resolves the promise; the first call of either counts. */
  readonly resolve: (value: T | PromiseLike<T>) => void
  /** Rejects the promise; the first call of either counts. */
  readonly reject: (reason?: unknown) => void
}

/** A promise that is settled from outside. */
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
  // A timer of the process, as it is: one of Effect's clock would load the runtime with the vocabulary.
  for (let left = ms; left > 0; left -= longestTimerMs) {
    await new Promise<void>((resolve) => setTimeout(resolve, Math.min(left, longestTimerMs)))
  }
}
