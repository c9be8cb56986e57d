/**
 * Limits how many calls wait for something, over all connections: each takes some 10 to 40 KB while it waits. A few
 * waiting calls of each connection are always allowed, so that a client with many of them does not block the others.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, UnavailableError } from "../../Errors.ts"

/** How many calls of one connection may always wait. */
export const FEW_WAITS = 16

/** The most waiting calls over all connections, not counting the first {@link FEW_WAITS} of each connection. */
export const MORE_WAITS = 10_000

export class WaitingCalls {
  readonly #byConnection = new WeakMap<object, number>()
  #moreWaits = 0

  /**
   * Runs a call that waits. Fails with `SERVER_BUSY` when there is no room for it. `connection` is the object
   * that all calls of a connection share.
   */
  run<A, E>(connection: object, call: Effect.Effect<A, E>): Effect.Effect<A, E | IronflowError> {
    return Effect.suspend((): Effect.Effect<A, E | IronflowError> => {
      const before = this.#byConnection.get(connection) ?? 0
      const isMore = before >= FEW_WAITS
      if (isMore && this.#moreWaits >= MORE_WAITS) return Effect.fail(tooManyWaiting())
      this.#byConnection.set(connection, before + 1)
      if (isMore) this.#moreWaits++
      return Effect.ensuring(
        call,
        Effect.sync(() => {
          const now = this.#byConnection.get(connection) ?? 1
          this.#byConnection.set(connection, now - 1)
          if (now > FEW_WAITS) this.#moreWaits--
        })
      )
    })
  }
}

const tooManyWaiting = (): IronflowError =>
  new UnavailableError(
    `Too many calls wait for something to happen (${MORE_WAITS}), and this connection already has ${FEW_WAITS} waiting calls or more: ` +
      "try again in a moment",
    { code: "SERVER_BUSY" }
  )
