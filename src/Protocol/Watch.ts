/** Watches of keys and configurations over WebSockets: how they begin and end. */
import { number, oneOf, optional, orElse, struct, withWireName } from "./Codec.ts"

/** The query parameters of a watch. The watch sends the changes after `revision`; the default, `now`, is the newest revision. */
export const watchQuery = ["revision"] as const

/**
 * The first frame, which is sent if the request had a `revision` (a number or `now`). The watch sends every
 * change after the `revision` in this frame.
 */
export const Watching = struct({
  type: oneOf("watching"),
  revision: orElse(number, 0),
  // ping interval of the server, in milliseconds
  pingMs: withWireName("ping_ms", optional(number))
})

/** Close code: the watch ended with an error. The last frame contains the error. */
export const WATCH_FAILED = 4000
/** Close code: the watcher does not read fast enough. */
export const WATCHER_TOO_SLOW = 4008
