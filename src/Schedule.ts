/**
 * Computes when a cron trigger fires. A schedule follows the local time of its zone, also when daylight
 * saving begins or ends.
 *
 * When clocks are set back, some local times come twice. The schedule then fires at both times if its minute or hour
 * contains `*` or `/`, and otherwise only at the first. When clocks are set forward, some local times are skipped. If
 * the hour of the schedule contains neither `*` nor `/`, all skipped times together make one fire, at the end of the
 * gap; otherwise they make none.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { ValidationError } from "./Errors.ts"

/** A cron schedule, with its zone. */
export interface Schedule {
  /** The schedule over local times, as if they were times in UTC: there no time comes twice or is skipped. */
  readonly local: Cron.Cron
  readonly zone: DateTime.TimeZone
  /** Whether the schedule fires twice at a local time that comes twice. */
  readonly firesTwice: boolean
  /** Whether skipped local times make one fire, at the end of the gap. */
  readonly firesAfterGap: boolean
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
  // a field for seconds may come before these five
  const [minute = "", hour = ""] = cron.trim().split(/\s+/).slice(-5)
  const firesAfterGap = !isPeriodic(hour)
  return {
    local: parsed.success,
    zone: zone.value,
    firesTwice: isPeriodic(minute) || !firesAfterGap,
    firesAfterGap
  }
}

const isPeriodic = (field: string): boolean => /[*/]/.test(field)

const DAY_MS = 86_400_000
/**
 * The longest change that a zone has ever made to its clocks, in milliseconds. Zones have skipped or repeated whole
 * dates.
 */
const LONGEST_CHANGE_MS = 26 * 60 * 60 * 1000

/** The first fire after the instant, both in epoch milliseconds. Throws when the schedule never fires. */
export const nextFire = (schedule: Schedule, after: number): number => {
  let start = after
  for (;;) {
    const offset = offsetAt(schedule, start)
    const end = start + 2 * DAY_MS
    const change = offsetAt(schedule, end) === offset ? undefined : changeBetween(schedule, start, end)
    const local = nextLocal(schedule, start + offset)
    const dueAt = local - offset
    if (dueAt < (change ?? end)) {
      const repetitionEnd = repetitionEndAt(schedule, dueAt)
      if (repetitionEnd === undefined) return dueAt
      start = repetitionEnd - 1
    } else if (change === undefined) {
      // the schedule has no local time until shortly before `dueAt`: no earlier change of the clocks can repeat or skip a
      // local time of the schedule
      start = Math.max(end - 1, dueAt - LONGEST_CHANGE_MS - 1)
    } else {
      const localAfterChange = change + offsetAt(schedule, change)
      if (local < localAfterChange && schedule.firesAfterGap) return change
      const isDue = nextLocal(schedule, localAfterChange - 1) === localAfterChange
      if (isDue && repetitionEndAt(schedule, change) === undefined) return change
      start = change
    }
  }
}

/** Throws when the schedule never fires, whatever the zone. */
export const checkEverFires = (schedule: Schedule): void => void nextLocal(schedule, 0)

/** The last fire after `after` and not after `until`; `undefined` when there is none. */
export const lastFire = (schedule: Schedule, after: number, until: number): number | undefined => {
  if (nextFire(schedule, after) > until) return undefined
  // the last fire comes after `low`, and not after `high`
  let low = after
  let high = until
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (nextFire(schedule, middle) > until) high = middle
    else low = middle
  }
  return nextFire(schedule, low)
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
const changeBetween = (schedule: Schedule, start: number, until: number): number => {
  const offset = offsetAt(schedule, start)
  let low = start
  let high = until
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(schedule, middle) === offset) low = middle
    else high = middle
  }
  return high
}

/**
 * The end of the repeated local times, if the instant repeats a local time at which the schedule has fired and must not
 * fire again. `undefined` for all other instants.
 */
const repetitionEndAt = (schedule: Schedule, instant: number): number | undefined => {
  if (schedule.firesTwice) return undefined
  const offset = offsetAt(schedule, instant)
  const earlier = instant - LONGEST_CHANGE_MS
  const setBackMs = offsetAt(schedule, earlier) - offset
  if (setBackMs <= 0 || offsetAt(schedule, instant - setBackMs) === offset) return undefined
  return changeBetween(schedule, earlier, instant) + setBackMs
}
