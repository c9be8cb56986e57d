/**
 * Calls that wait for something to happen, over all connections: each takes some 10 to 40 KB for as long as it waits. There is room
 * for so many, besides a few of each connection, so that nobody is kept from waiting by those who wait most.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, UnavailableError } from "../../Errors.ts"

/** Calls of one connection for which there always is room. */
export const FEW_WAITS = 16

/** All others. */
export const MORE_WAITS = 10_000

export class Waiting {
  readonly #byLine = new WeakMap<object, number>()
  #more = 0

  /** A call that waits. Fails with `SERVER_BUSY` when there is no room for it. `line` is what the calls of a connection share. */
  on<A, E>(line: object, call: Effect.Effect<A, E>): Effect.Effect<A, E | IronflowError> {
    return Effect.suspend((): Effect.Effect<A, E | IronflowError> => {
      const before = this.#byLine.get(line) ?? 0
      const isMore = before >= FEW_WAITS
      if (isMore && this.#more >= MORE_WAITS) return Effect.fail(noRoom())
      this.#byLine.set(line, before + 1)
      if (isMore) this.#more++
      return Effect.ensuring(
        call,
        Effect.sync(() => {
          const now = this.#byLine.get(line) ?? 1
          this.#byLine.set(line, now - 1)
          if (now > FEW_WAITS) this.#more--
        })
      )
    })
  }
}

const noRoom = (): IronflowError =>
  new UnavailableError(
    `More than ${MORE_WAITS} calls wait for something to happen, and this connection has ${FEW_WAITS} of them: ask again in a moment`,
    { code: "SERVER_BUSY" }
  )
