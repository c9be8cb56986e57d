/** The clock of the Postgres server. All engines on the database use it, because the clocks of their machines may be minutes apart. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export class ServerClock {
  readonly #machineClock: Clock.Clock
  /** Time of the server minus the time of this process's monotonic clock. */
  #offsetMs = 0

  constructor(machineClock: Clock.Clock) {
    this.#machineClock = machineClock
  }

  /** Sets the clock to the time that the server has just returned, epoch milliseconds. Called with every write. */
  set(serverMs: number): void {
    this.#offsetMs = serverMs - this.#monotonicMs()
  }

  /** The time, epoch milliseconds. It is ahead of the server only by the drift since {@link set} was last called. */
  readonly now = (): number => Math.floor(this.#offsetMs + this.#monotonicMs())

  /** This clock as a `Clock` of Effect. */
  get clock(): Clock.Clock {
    const nanos = (): bigint => BigInt(this.now()) * 1_000_000n
    return {
      currentTimeMillisUnsafe: this.now,
      currentTimeMillis: Effect.sync(this.now),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: () => this.#machineClock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: this.#machineClock.monotonicTimeNanos,
      sleep: (duration) => this.#machineClock.sleep(duration)
    }
  }

  #monotonicMs(): number {
    return Number(this.#machineClock.monotonicTimeNanosUnsafe()) / 1e6
  }
}
