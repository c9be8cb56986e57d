/**
 * What a `WorkerConnection` is made from: the connection of a worker with the turn protocol, whose rules are in
 * `Protocol/Http/Turns.ts`.
 */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { ProcessIdentity } from "../../Protocol/Http/Turns.ts"
import type { Deliveries } from "./Deliveries.ts"
import type { WatchedConnection } from "./WatchedConnection.ts"
import type { RemoteSession } from "./RemoteSession.ts"

/** How to reach a worker that has a stream and does not poll. */
export interface StreamSignals {
  /** Called when there is something to deliver. */
  readonly wake: () => void
  /** Called when the session is over. */
  readonly end: () => void
}

/** What is needed for a connection. `Connection` is the class that takes these options. */
export interface WorkerConnectionOptions<Connection> {
  readonly workerId: string
  readonly environment: string
  /** The id of the worker's process. It stays the same when the worker registers again. */
  readonly instance: string
  /** The id of this session, which each message of the worker names. Each registration begins a session. */
  readonly session: string
  /** What the engine does for this session. */
  readonly engine: RemoteSession
  readonly deliveries: Deliveries
  /** The job ids of the active turns that the worker named when it registered. */
  readonly jobs: ReadonlyArray<string>
  readonly functionIds: ReadonlySet<string>
  /** How long the worker's leases last, in milliseconds. */
  readonly leaseMs: number
  /** Whether the worker names the jobs whose leases it renews. */
  readonly renews: boolean
  /** Whether the worker seals all messages, that is, adds a checksum: see `Protocol/Seal.ts`. */
  readonly seals: boolean
  /** How to find out whether the worker's process has ended; absent where that cannot be detected. */
  readonly process: ProcessIdentity | undefined
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number
  /** The connection on which the worker registered. */
  readonly connection: WatchedConnection
  /** Absent for a worker that polls. */
  readonly stream?: StreamSignals
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Ends the session of a dead worker: it has been silent for too long, or its process has ended. */
  readonly onDead: (worker: Connection) => Effect.Effect<void>
  /** Called when a batch of reports is refused because a later batch has arrived before it. */
  readonly onStale: () => void
}
