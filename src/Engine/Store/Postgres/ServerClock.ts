/** The clock of the Postgres server. All engines on the database use it, because the clocks of their machines may be minutes apart. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export class ServerClock {
  readonly #own: Clock.Clock
  /** Server clock minus this process's monotonic clock. */
  #offsetMs = 0

  constructor(own: Clock.Clock) {
    this.#own = own
  }

  /** Sets the clock to the time that the server has just returned, epoch milliseconds. Called with every write. */
  measured(serverMs: number): void {
    this.#offsetMs = serverMs - this.#monotonicMs()
  }

  /** The time, epoch milliseconds. It is ahead of the server only by the drift since {@link measured} was last called. */
  readonly now = (): number => Math.floor(this.#offsetMs + this.#monotonicMs())

  /** The same as a clock of Effect. */
  get clock(): Clock.Clock {
    const nanos = (): bigint => BigInt(this.now()) * 1_000_000n
    return {
      currentTimeMillisUnsafe: this.now,
      currentTimeMillis: Effect.sync(this.now),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: () => this.#own.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: this.#own.monotonicTimeNanos,
      sleep: (duration) => this.#own.sleep(duration)
    }
  }

  #monotonicMs(): number {
    return Number(this.#own.monotonicTimeNanosUnsafe()) / 1e6
  }
}
