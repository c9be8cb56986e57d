/**
 * Limits how many calls wait for something, over all connections: each takes some 10 to 40 KB while it waits. A few
 * waiting calls of each connection are always allowed, so that a client with many of them does not block the others.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, UnavailableError } from "../../Errors.ts"

/** How many calls of one connection may always wait. */
export const ALLOWED_WAITS = 16

/** Maximum number of waiting calls over all connections, not counting the first {@link ALLOWED_WAITS} of each connection. */
export const MAX_EXTRA_WAITS = 10_000

export class WaitingCalls {
  readonly #waitsByConnection = new WeakMap<object, number>()
  #extraWaits = 0

  /**
   * Runs a call that waits. Fails with `SERVER_BUSY` when there is no room for it. `connection` is the object
   * that all calls of a connection share.
   */
  run<A, E>(connection: object, call: Effect.Effect<A, E>): Effect.Effect<A, E | IronflowError> {
    return Effect.suspend((): Effect.Effect<A, E | IronflowError> => {
      const waits = this.#waitsByConnection.get(connection) ?? 0
      const isExtra = waits >= ALLOWED_WAITS
      if (isExtra && this.#extraWaits >= MAX_EXTRA_WAITS) return Effect.fail(tooManyWaiting())
      this.#waitsByConnection.set(connection, waits + 1)
      if (isExtra) this.#extraWaits++
      return Effect.ensuring(
        call,
        Effect.sync(() => {
          const waitsBefore = this.#waitsByConnection.get(connection) ?? 1
          this.#waitsByConnection.set(connection, waitsBefore - 1)
          if (waitsBefore > ALLOWED_WAITS) this.#extraWaits--
        })
      )
    })
  }
}

const tooManyWaiting = (): IronflowError =>
  new UnavailableError(
    `Too many calls wait for something to happen (${MAX_EXTRA_WAITS}), and this connection already has ${ALLOWED_WAITS} waiting calls or more: ` +
      "try again in a moment",
    { code: "SERVER_BUSY" }
  )
