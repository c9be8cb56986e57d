/**
 * How our worker and our engine exchange turns over a stream: the protocol of `Protocol/Http/Turns.ts` with calls in place of
 * requests, and pushed deliveries in place of polls.
 *
 * A stream begins with a registration, which opens the stream's session. Then the worker makes calls, each answered once, and the
 * engine pushes deliveries.
 *
 * - **Room limits jobs.** The engine pushes no more jobs than the worker has room for, and a full transport accepts no more until
 *   it has been read. So the two sides cannot deadlock by waiting for each other to read.
 * - **Presence.** The worker calls `room` at least five times in `leaseMs`, even without changes. This renews its leases. If no
 *   answer comes in time, the stream counts as lost.
 * - **A lost stream ends its session.** The worker opens a new stream with the turns that it holds (`jobs`), as after
 *   `WORKER_UNKNOWN`. It sends an unanswered batch again with the same number.
 */
import type { Room, PollResponse, RegisterTurnsResponse, Renewal } from "./Http/Turns.ts"

/**
 * The calls of a worker: `report` (`ReportsRequest` to `ReportsResponse`), `room` ({@link RoomRequest}), `late` (`LateRequest`),
 * `leave` (a session: the worker leaves and returns all leases). The answers to the last three only confirm the call.
 */
export const streamCalls = ["report", "room", "late", "leave"] as const
export type StreamCall = (typeof streamCalls)[number]

/** Renews presence, and reports the room for jobs. */
export interface RoomRequest extends Room, Renewal {
  readonly session: string
}

/** Messages that an engine pushes: first the answer to the registration, then deliveries. */
export type Push = { readonly registered: RegisterTurnsResponse } | PollResponse

/** A failed call, with the error as HTTP would return it. */
export interface CallFailure {
  readonly status: number
  readonly body: { readonly [key: string]: unknown }
}
