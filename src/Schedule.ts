/**
 * Computes when a cron trigger fires. A schedule follows the local time of its zone, also when daylight
 * saving begins or ends.
 *
 * A local time that comes twice fires twice if the minute or the hour of the schedule contains `*` or `/`; if
 * not, it fires the first time only. Local times that are skipped fire once for all of them, at the end of
 * the gap, if the hour contains neither; if it contains one, they do not fire.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { ValidationError } from "./Errors.ts"

/** A cron schedule, with its zone. */
export interface Schedule {
  /** The schedule in UTC, where no time comes twice or is skipped. It is evaluated over local times. */
  readonly local: Cron.Cron
  readonly zone: DateTime.TimeZone
  /** Whether a local time that comes twice fires twice. */
  readonly repeats: boolean
  /** Whether local times that are skipped fire once, at the end of the gap. */
  readonly makesUp: boolean
}

/** Parses the schedule of a cron trigger. Throws `ValidationError` when the schedule or the zone is invalid. */
export const parseSchedule = (cron: string, timezone = "UTC"): Schedule => {
  const zone = DateTime.zoneFromString(timezone)
  if (Option.isNone(zone)) {
    throw new ValidationError(
      `"${timezone}" is not a time zone; write an IANA name such as "Europe/Berlin", or "UTC"`
    )
  }
  const parsed = Cron.parse(cron, "UTC")
  if (Result.isFailure(parsed)) {
    throw new ValidationError(
      `"${cron}" is not a cron schedule: ${parsed.failure.message}. ` +
        'Write minute, hour, day of month, month and day of week, as in "0 9 * * 1-5"',
      { cause: parsed.failure }
    )
  }
  // there may be a field for seconds before these two
  const [minute = "", hour = ""] = cron.trim().split(/\s+/).slice(-5)
  const makesUp = !isOpen(hour)
  return { local: parsed.success, zone: zone.value, repeats: isOpen(minute) || !makesUp, makesUp }
}

const isOpen = (field: string): boolean => /[*/]/.test(field)

const DAY_MS = 86_400_000
/**
 * The longest change that a zone has ever made to its clocks, in milliseconds; skipped dates are included.
 */
const LONGEST_CHANGE = 26 * 60 * 60 * 1000

/** The first fire after the instant, both in epoch milliseconds. Throws when the schedule never fires. */
export const nextFire = (schedule: Schedule, after: number): number => {
  let from = after
  for (;;) {
    const offset = offsetAt(schedule, from)
    const end = from + 2 * DAY_MS
    const change = offsetAt(schedule, end) === offset ? undefined : changeBetween(schedule, from, end)
    const local = nextLocal(schedule, from + offset)
    const due = local - offset
    if (due < (change ?? end)) {
      const until = passedOverUntil(schedule, due)
      if (until === undefined) return due
      from = until - 1
    } else if (change === undefined) {
      // nothing is due within two days, so no change before `due` can repeat or skip a time of the schedule
      from = Math.max(end - 1, due - LONGEST_CHANGE - 1)
    } else {
      const goesOnAt = change + offsetAt(schedule, change)
      if (local < goesOnAt && schedule.makesUp) return change
      const isDue = nextLocal(schedule, goesOnAt - 1) === goesOnAt
      if (isDue && passedOverUntil(schedule, change) === undefined) return change
      from = change
    }
  }
}

/** Throws when the schedule never fires, whatever the zone. */
export const checkEverFires = (schedule: Schedule): void => void nextLocal(schedule, 0)

/** The last fire after `after` and not after `until`; `undefined` when there is none. */
export const lastFire = (schedule: Schedule, after: number, until: number): number | undefined => {
  if (nextFire(schedule, after) > until) return undefined
  let before = after
  let behind = until
  while (behind - before > 1) {
    const middle = Math.floor((before + behind) / 2)
    if (nextFire(schedule, middle) > until) behind = middle
    else before = middle
  }
  return nextFire(schedule, before)
}

/**
 * The next local time of the schedule. A local time is represented by the instant at which clocks in UTC show
 * it.
 */
const nextLocal = (schedule: Schedule, after: number): number =>
  Cron.next(schedule.local, new Date(after)).getTime()

const offsetAt = ({ zone }: Schedule, instant: number): number =>
  DateTime.zonedOffset(DateTime.makeZonedUnsafe(instant, { timeZone: zone }))

/** The first instant with the new offset. The two given instants have different offsets. */
const changeBetween = (schedule: Schedule, from: number, until: number): number => {
  const offset = offsetAt(schedule, from)
  let before = from
  let behind = until
  while (behind - before > 1) {
    const middle = Math.floor((before + behind) / 2)
    if (offsetAt(schedule, middle) === offset) before = middle
    else behind = middle
  }
  return behind
}

/**
 * If the instant has a local time that comes twice and has fired already: when these times end. `undefined`
 * for other instants.
 */
const passedOverUntil = (schedule: Schedule, instant: number): number | undefined => {
  if (schedule.repeats) return undefined
  const offset = offsetAt(schedule, instant)
  const before = instant - LONGEST_CHANGE
  const back = offsetAt(schedule, before) - offset
  if (back <= 0 || offsetAt(schedule, instant - back) === offset) return undefined
  return changeBetween(schedule, before, instant) + back
}
