/**
 * The timer functions of Node.js as they are when this module is loaded: fake timers that a test installs later do not
 * replace them. Fake timers may delay what waits for a time, but must not delay code that only waits for the next turn
 * of the event loop.
 */
import { nextTick as processNextTick } from "node:process"
import * as timers from "node:timers"

export const setImmediate = timers.setImmediate
export const clearImmediate = timers.clearImmediate
export const setTimeout = timers.setTimeout
export const clearTimeout = timers.clearTimeout
export const queueMicrotask = globalThis.queueMicrotask
export const nextTick = processNextTick
