/** What watches over WebSockets have in common: how one begins, and how it ends. */
import { as, number, oneOf, optional, orElse, struct } from "./Codec.ts"

/** `revision` in the query of a watch is that after which it begins, or `now`, as it does without. */
export const watchQuery = ["revision"] as const

/** The first frame, to those who have said where to begin: the watch sees every change after this revision. */
export const Watching = struct({
  type: oneOf("watching"),
  revision: orElse(number, 0),
  // how often the server asks whether the watcher is still there, milliseconds
  pingMs: as("ping_ms", optional(number))
})

/** The code of a close frame: the watch ended with an error, which the frame before said. */
export const WATCH_FAILED = 4000
/** The watcher does not read. */
export const WATCHER_TOO_SLOW = 4008
