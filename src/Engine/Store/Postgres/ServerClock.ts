/** The clock of the server, which all nodes go by: their own may be minutes apart. It is read with everything that is written. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export class ServerClock {
  readonly #own: Clock.Clock
  /** What the server's clock shows beside the time that only goes on here. */
  #offsetMs = 0

  constructor(own: Clock.Clock) {
    this.#own = own
  }

  /** The server has just said what time it is, epoch milliseconds. */
  measured(serverMs: number): void {
    this.#offsetMs = serverMs - this.#monotonicMs()
  }

  /** Epoch milliseconds; never ahead of the server by more than the clocks drift apart between two looks. */
  readonly now = (): number => Math.floor(this.#offsetMs + this.#monotonicMs())

  /** As a clock that programs sleep by. */
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
