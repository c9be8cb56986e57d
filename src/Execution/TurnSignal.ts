/** Tells a handler that its turn is over: by its `signal`, and by the callbacks of `onTurnEnd`. */
export class TurnSignal {
  readonly #owner: { readonly callbackFailed: (error: unknown) => void }
  #controller: AbortController | undefined = undefined
  #reason: (() => Error) | undefined = undefined
  #callbacks: Array<() => void | Promise<void>> | undefined = undefined
  #isOver = false

  /** `callbackFailed` receives the error of a callback that throws or rejects. */
  constructor(owner: { readonly callbackFailed: (error: unknown) => void }) {
    this.#owner = owner
  }

  /** The signal. It is made on first use, since most handlers do not use it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason())
    }
    return this.#controller.signal
  }

  /** Aborts the signal. Only the first reason counts; `reason` is called only when the signal is used. */
  abort(reason: () => Error): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason())
  }

  /** Registers a callback for the end of the turn. It is called at once if the turn has ended. */
  onEnd(callback: () => void | Promise<void>): void {
    if (this.#isOver) this.#run(callback)
    else (this.#callbacks ??= []).push(callback)
  }

  /** Calls the registered callbacks. */
  end(): void {
    this.#isOver = true
    const callbacks = this.#callbacks
    this.#callbacks = undefined
    if (callbacks !== undefined) for (const callback of callbacks) this.#run(callback)
  }

  #run(callback: () => void | Promise<void>): void {
    try {
      const result = callback()
      if (result instanceof Promise) result.catch((error: unknown) => this.#owner.callbackFailed(error))
    } catch (error) {
      this.#owner.callbackFailed(error)
    }
  }
}
