/**
 * How a worker and an engine of this package exchange turns over a stream. It is the protocol of `Protocol/Http/Turns.ts`, with
 * calls on the stream in place of requests, and with deliveries that the engine pushes in place of polls.
 *
 * A stream begins with a registration, which opens the stream's session. Then the worker makes calls, each answered once, and the
 * engine pushes deliveries.
 *
 * - **Room limits jobs.** The engine pushes no more jobs than the worker has room for, and when the transport is full it pushes
 *   nothing until the worker has read. So the two sides cannot deadlock by waiting for each other to read.
 * - **Presence.** The worker calls `room` at least five times in `leaseMs`, even without changes. This renews its leases. If no
 *   answer comes in time, the stream counts as lost.
 * - **A lost stream ends its session.** The worker opens a new stream with the turns that it holds (`jobs`), as after
 *   `WORKER_UNKNOWN`. It sends an unanswered batch again with the same number.
 */
import type { Room, PollResponse, RegisterTurnsResponse, Renewal } from "./Http/Turns.ts"

/**
 * The calls of a worker. `report` sends a `ReportsRequest`, and is answered with a `ReportsResponse`. `room` sends a
 * {@link RoomRequest}, `late` a `LateRequest`, and `leave` the id of the session: the worker ends the session, and so
 * returns all leases. The answers to `room`, `late` and `leave` only confirm the call.
 */
export const streamCalls = ["report", "room", "late", "leave"] as const
export type StreamCall = (typeof streamCalls)[number]

/** Shows that the worker is present, renews its leases, and reports its room for jobs. */
export interface RoomRequest extends Room, Renewal {
  readonly session: string
}

/** Messages that an engine pushes: first the answer to the registration, then deliveries. */
export type Push = { readonly registered: RegisterTurnsResponse } | PollResponse

/** The answer to a failed call: the status and the body that the call would have over HTTP. */
export interface CallFailure {
  readonly status: number
  readonly body: { readonly [key: string]: unknown }
}
