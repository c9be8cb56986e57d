/** How a handler hears that its turn is over: its `signal`, and the callbacks that it gave to `onTurnEnd`. */
export class TurnSignal {
  readonly #owner: { readonly callbackFailed: (error: unknown) => void }
  #controller: AbortController | undefined = undefined
  #reason: (() => Error) | undefined = undefined
  #callbacks: Array<() => void | Promise<void>> | undefined = undefined
  #over = false

  /** The owner hears of callbacks that throw or reject. */
  constructor(owner: { readonly callbackFailed: (error: unknown) => void }) {
    this.#owner = owner
  }

  /** Made when it is asked for: most handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason())
    }
    return this.#controller.signal
  }

  /** The first reason stays. It is made when it is asked for. */
  abort(reason: () => Error): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#controller?.abort(reason())
  }

  /** Has the callback called when the turn ends; at once when it has. */
  onEnd(callback: () => void | Promise<void>): void {
    if (this.#over) this.#run(callback)
    else (this.#callbacks ??= []).push(callback)
  }

  /** Calls the callbacks. */
  end(): void {
    this.#over = true
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
