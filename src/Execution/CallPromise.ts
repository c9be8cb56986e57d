/** The promises of step calls: settled later, or never. */
import { toError } from "../Errors.ts"

/**
 * Makes a promise that `begin` may settle, now or later. A later rejection is the outcome of a step and is in the
 * journal, so it must not end the process as an unhandled rejection. `onLook` is called when the promise is
 * awaited, or passed to `Promise.all` and the like.
 */
export const callPromise = <T>(
  begin: (succeed: (value: T) => void, fail: (error: Error) => void) => void,
  onLook?: () => void
): Promise<T> => {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const executor = (onSuccess: (value: T) => void, onFailure: (error: Error) => void) => {
    resolve = onSuccess
    reject = onFailure
  }
  const promise = onLook === undefined ? new Promise(executor) : new WatchedPromise(executor, onLook)
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
  readonly #onLook: () => void

  /** `then` and the like return plain promises. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  constructor(
    executor: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
    onLook: () => void
  ) {
    super(executor)
    this.#onLook = onLook
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
  override then<A = T, B = never>(
    onSuccess?: ((value: T) => A | PromiseLike<A>) | null,
    onFailure?: ((reason: unknown) => B | PromiseLike<B>) | null
  ): Promise<A | B> {
    this.#onLook()
    return super.then(onSuccess, onFailure)
  }
}
