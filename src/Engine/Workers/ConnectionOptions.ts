/** What the connection of a worker that speaks turns is made of. */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { ProcessIdentity } from "../../Protocol/Http/Turns.ts"
import type { Deliveries } from "./Deliveries.ts"
import type { Line } from "./Line.ts"
import type { RemoteSession } from "./RemoteSession.ts"

/** How a worker is reached that does not poll. */
export interface Push {
  /** There is something to deliver. */
  readonly wake: () => void
  /** The session is over. */
  readonly end: () => void
}

/** `Connection` is what they are the options of. */
export interface WorkerConnectionOptions<Connection> {
  readonly workerId: string
  readonly environment: string
  readonly instance: string
  readonly session: string
  readonly engine: RemoteSession
  readonly deliveries: Deliveries
  /** The turns that it said it was at when it registered. */
  readonly jobs: ReadonlyArray<string>
  readonly functionIds: ReadonlySet<string>
  /** How long its leases hold. */
  readonly leaseMs: number
  /** Whether it names the jobs whose leases it renews. */
  readonly renews: boolean
  /** Whether it seals everything that it sends. */
  readonly seals: boolean
  /** Absent where the end of its process cannot be seen. */
  readonly process: ProcessIdentity | undefined
  /** A clock that nobody sets back or forward, milliseconds. */
  readonly now: () => number
  /** The connection that it registered on. */
  readonly line: Line
  readonly push?: Push
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Ends the session of a worker that has been away for too long. */
  readonly onDead: (worker: Connection) => Effect.Effect<void>
  /** A batch was refused, because a later one has come before. */
  readonly onStale: () => void
}
