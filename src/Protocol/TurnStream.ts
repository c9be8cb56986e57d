/**
 * How our worker and our engine exchange turns over a stream: what `Protocol/Http/Turns.ts` says, with calls in place of
 * requests and deliveries pushed in place of polls.
 *
 * A stream begins with a registration, which opens a session; every stream has one of its own. Then the worker makes calls,
 * each answered once, and the engine pushes deliveries whenever there are some.
 *
 * - **Room is credit.** The engine pushes no more jobs than the worker has asked for, and a carrier that is full takes
 *   no more until it has been read. So neither side waits for the other to read before it can be read itself.
 * - **Presence.** The worker calls `room` at least five times in `leaseMs`, with or without news: that renews its leases, and
 *   an answer that does not come in time says that the stream is lost.
 * - **A lost stream ends its session.** The worker opens another one with the turns that it holds (`jobs`), as after
 *   `WORKER_UNKNOWN`; a batch that was not answered is sent again under its number.
 */
import type { PollResponse, RegisterTurnsResponse, Renewal, Room } from "./Http/Turns.ts"

/**
 * What a worker calls: `report` (`ReportsRequest` to `ReportsResponse`), `room` ({@link RoomRequest}), `late`
 * (`LateRequest`), `leave` (a session: the worker goes, and every lease is given back). The answers to the last three say no more
 * than that it is done.
 */
export const streamCalls = ["report", "room", "late", "leave"] as const
export type StreamCall = (typeof streamCalls)[number]

/** A sign of life, with how much room there is. */
export interface RoomRequest extends Room, Renewal {
  readonly session: string
}

/** What an engine pushes: first the answer to the registration, then deliveries. */
export type Push = { readonly registered: RegisterTurnsResponse } | PollResponse

/** A call that failed: the error as an answer over HTTP would have it. */
export interface CallFailure {
  readonly status: number
  readonly body: { readonly [key: string]: unknown }
}
