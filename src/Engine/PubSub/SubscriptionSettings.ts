/** Settings of subscriptions and consumer groups: their checks and defaults. */
import { type Duration, positiveDuration } from "../../Duration.ts"
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import {
  ackModes,
  type BackpressureMode,
  type BufferConfig,
  type GroupSettings,
  GROUP_REDELIVERIES,
  MAX_ACK_WAIT_MS,
  MAX_BACKOFF_MS,
  MAX_BUFFER,
  MAX_IN_FLIGHT,
  MAX_REDELIVER_MS,
  MIN_ACK_WAIT_MS,
  MIN_BUFFER,
  REDELIVER_MS
} from "../../Protocol/Subscriptions.ts"
import { show } from "../../Show.ts"
import type { StoredSettings, Redelivery } from "./GroupRecords.ts"

/** The backpressure modes of a group. There is no `drop`, because a group never drops events. */
const groupModes: readonly [BackpressureMode, ...Array<BackpressureMode>] = ["buffer", "block"]

/** The settings of a group, with defaults. */
export const settingsOf = (given: StoredSettings): GroupSettings => ({
  ackMode: "auto",
  backpressure: "buffer",
  buffer: {},
  maxInflight: MAX_IN_FLIGHT,
  maxRedeliveries: GROUP_REDELIVERIES,
  redeliverDelayMs: REDELIVER_MS,
  ...given
})

/**
 * When a failed delivery of a group is delivered again. `delayMs` comes from a `nak` and takes precedence over the group's setting.
 * Either delay stays the same after each failure. If neither is given, the delay grows.
 */
export const redeliveryOf = (given: StoredSettings, delayMs?: number): Redelivery => ({
  firstMs: delayMs ?? given.redeliverDelayMs ?? REDELIVER_MS,
  longestMs: delayMs ?? given.redeliverDelayMs ?? MAX_BACKOFF_MS,
  maxRedeliveries: given.maxRedeliveries ?? GROUP_REDELIVERIES
})

type Change = { readonly [Name in keyof StoredSettings]?: StoredSettings[Name] | null }

/**
 * Checks the settings in `given`, and returns them. `null` removes a setting, where that is allowed. Throws `ValidationError`.
 */
export const readSettings = (
  given: { readonly [Name in keyof GroupSettings]?: unknown },
  { mayBeNull }: { readonly mayBeNull: boolean }
): Change => {
  const readSetting = <A>(name: keyof GroupSettings, check: (value: unknown) => A) => {
    const value = given[name]
    if (value === undefined) return {}
    return { [name]: value === null && mayBeNull ? null : check(value) }
  }
  return {
    ...readSetting("ackMode", (value) => oneOf("ackMode", ackModes, value)),
    ...readSetting("backpressure", (value) => oneOf("backpressure", groupModes, value)),
    ...readSetting("buffer", readBuffer),
    ...readSetting("maxInflight", (value) => integer("maxInflight", value, 1, 1000)),
    ...readSetting("maxRedeliveries", (value) => integer("maxRedeliveries", value, 0, 1000)),
    ...readSetting("redeliverDelayMs", (value) => integer("redeliverDelayMs", value, 0, MAX_REDELIVER_MS))
  }
}

export const readBuffer = (value: unknown): BufferConfig => {
  if (!isObject(value)) throw new ValidationError(`\`buffer\` must be an object, got ${show(value)}`)
  const { maxBytes } = value
  return maxBytes === undefined
    ? {}
    : { maxBytes: integer("buffer.maxBytes", maxBytes, MIN_BUFFER, MAX_BUFFER) }
}

/** Checks `ackWait`, how long a client may take to ack a delivery, and returns it in milliseconds. */
export const readAckWait = (value: unknown): number => {
  // `positiveDuration` reports values of other types
  const ms = positiveDuration(value as Duration, "`ackWait`")
  if (ms >= MIN_ACK_WAIT_MS && ms <= MAX_ACK_WAIT_MS) return Math.floor(ms)
  throw new ValidationError(`\`ackWait\` must be from 1 second to 24 hours, got ${show(value)}`)
}

/** Checks how many events a client wants to hold at once. */
export const readCapacity = (value: unknown): number => integer("capacity", value, 1, 1000)

export const oneOf = <A extends string>(name: string, allowed: ReadonlyArray<A>, value: unknown): A => {
  const found = allowed.find((one) => one === value)
  if (found !== undefined) return found
  throw new ValidationError(`\`${name}\` must be one of ${allowed.join(", ")}, got ${show(value)}`)
}

const integer = (name: string, value: unknown, from: number, to: number): number => {
  if (typeof value === "number" && Number.isInteger(value) && value >= from && value <= to) return value
  throw new ValidationError(`\`${name}\` must be an integer from ${from} to ${to}, got ${show(value)}`)
}
