/**
 * Waiting for a turn of the event loop, independent of fake timers in tests: those may delay timers, but not mere turns. These
 * functions are captured when this module is loaded.
 */
import { nextTick as processNextTick } from "node:process"
import * as timers from "node:timers"

export const setImmediate = timers.setImmediate
export const clearImmediate = timers.clearImmediate
export const setTimeout = timers.setTimeout
export const clearTimeout = timers.clearTimeout
export const queueMicrotask = globalThis.queueMicrotask
export const nextTick = processNextTick
