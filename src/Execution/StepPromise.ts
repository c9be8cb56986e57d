/** The promises of step calls: settled later, or never. */
import { toError } from "../Errors.ts"

/**
 * A promise that `begin` settles later, or never. A rejection that comes later is the outcome of a step, which the
 * journal has: that the handler is not looking at the promise just then must not end the process. `onLook` is called when somebody
 * awaits the promise, or hands it to the likes of `Promise.all`.
 */
export const settledBy = <T>(
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

  /** What follows from it is as any promise. */
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
