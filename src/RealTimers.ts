/**
 * How to wait one's turn in the event loop, whatever a test has put in the place of the global functions: fake timers hold back
 * what waits for time, and must not hold back what only waits its turn. These are as they were when this was loaded.
 */
import { nextTick as processNextTick } from "node:process"
import * as timers from "node:timers"

export const setImmediate = timers.setImmediate
export const clearImmediate = timers.clearImmediate
export const setTimeout = timers.setTimeout
export const clearTimeout = timers.clearTimeout
export const queueMicrotask = globalThis.queueMicrotask
export const nextTick = processNextTick
