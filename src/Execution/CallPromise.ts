/** Makes the promises of step calls. They settle later, or never if the step is suspended at the end of the turn. */
import { toError } from "../Errors.ts"

/**
 * Makes a promise that `begin` may settle, now or later. When the promise rejects later, its error is the outcome of a
 * step, which is in the journal. So this rejection must not end the process as an unhandled one. `onAwait` is called
 * when the promise is awaited, or passed to `Promise.all` and the like.
 */
export const callPromise = <T>(
  begin: (succeed: (value: T) => void, fail: (error: Error) => void) => void,
  onAwait?: () => void
): Promise<T> => {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const executor = (onSuccess: (value: T) => void, onFailure: (error: Error) => void) => {
    resolve = onSuccess
    reject = onFailure
  }
  const promise = onAwait === undefined ? new Promise(executor) : new WatchedPromise(executor, onAwait)
  try {
    begin(resolve, (error) => {
      promise.catch(() => undefined)
      reject(error)
    })
  } catch (error) {
    reject(toError(error))
  }
  return promise
}

class WatchedPromise<T> extends Promise<T> {
  readonly #onAwait: () => void

  /** `then` and the like return plain promises. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  constructor(
    executor: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
    onAwait: () => void
  ) {
    super(executor)
    this.#onAwait = onAwait
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
  override then<A = T, B = never>(
    onSuccess?: ((value: T) => A | PromiseLike<A>) | null,
    onFailure?: ((reason: unknown) => B | PromiseLike<B>) | null
  ): Promise<A | B> {
    this.#onAwait()
    return super.then(onSuccess, onFailure)
  }
}
