/**
 * Functions that wait for a turn of the event loop, whatever fake timers a test has: fakes may delay timers,
 * but must not delay mere turns. These are taken when this module is loaded.
 */
import { nextTick as processNextTick } from "node:process"
import * as timers from "node:timers"

export const setImmediate = timers.setImmediate
export const clearImmediate = timers.clearImmediate
export const setTimeout = timers.setTimeout
export const clearTimeout = timers.clearTimeout
export const queueMicrotask = globalThis.queueMicrotask
export const nextTick = processNextTick
