import { assert, describe, it } from "@effect/vitest"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import { ValidationError } from "../src/Errors.ts"
import { lastFire, nextFire, parseSchedule } from "../src/Schedule.ts"
import { isLong } from "./Long.ts"

const minute = 60_000

/** The fires from one instant until before another one. */
const fires = (cron: string, timezone: string, from: string, to: string): ReadonlyArray<string> => {
  const schedule = parseSchedule(cron, timezone)
  const found: Array<string> = []
  for (let at = nextFire(schedule, Date.parse(from) - 1); at < Date.parse(to); at = nextFire(schedule, at)) {
    found.push(new Date(at).toISOString().replace(":00.000Z", "Z"))
  }
  return found
}

/** Local days, from midnight to midnight, on which the clocks go back, and the repeated hour. */
const daysWithRepeatedTimes = [
  ["America/New_York", "2026-11-01T04:00Z", "2026-11-02T05:00Z", 1],
  ["Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z", 2],
  ["Australia/Lord_Howe", "2026-04-04T13:00Z", "2026-04-05T13:30Z", 1],
  ["Pacific/Apia", "2021-04-03T10:00Z", "2021-04-04T11:00Z", 3],
  ["Africa/Casablanca", "2025-02-22T23:00Z", "2025-02-24T00:00Z", 2],
  ["UTC", "2026-10-25T00:00Z", "2026-10-26T00:00Z", 2]
] as const

/** Local days on which the clocks go forward, and the skipped hour. */
const daysWithSkippedTimes = [
  ["America/New_York", "2026-03-08T05:00Z", "2026-03-09T04:00Z", 2],
  ["Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z", 2],
  ["Australia/Lord_Howe", "2026-10-03T13:30Z", "2026-10-04T13:00Z", 2],
  ["Pacific/Apia", "2020-09-26T11:00Z", "2020-09-27T10:00Z", 3],
  ["Africa/Casablanca", "2025-04-06T00:00Z", "2025-04-06T23:00Z", 2],
  ["UTC", "2026-03-29T00:00Z", "2026-03-30T00:00Z", 2]
] as const

describe("nextFire, on the day on which clocks go back", () => {
  const counts = (cron: string) =>
    daysWithRepeatedTimes.map(
      ([zone, from, to, hour]) => fires(cron.replace("H", String(hour)), zone, from, to).length
    )

  it.each<readonly [cron: string, counts: ReadonlyArray<number>]>([
    ["*/30 * * * *", [50, 50, 49, 50, 50, 48]],
    ["*/5 * * * *", [300, 300, 294, 300, 300, 288]],
    ["* * * * *", [1500, 1500, 1470, 1500, 1500, 1440]],
    ["45 * * * *", [25, 25, 25, 25, 25, 24]],
    ["45 */1 * * *", [25, 25, 25, 25, 25, 24]],
    ["*/10 H * * *", [12, 12, 9, 12, 12, 6]],
    ["0-59/10 H * * *", [12, 12, 9, 12, 12, 6]],
    ["45 H * * *", [1, 1, 1, 1, 1, 1]],
    ["0,45 H * * *", [2, 2, 2, 2, 2, 2]],
    ["45 0-23 * * *", [24, 24, 24, 24, 24, 24]],
    ["30 45 H * * *", [1, 1, 1, 1, 1, 1]],
    ["0 12 * * *", [1, 1, 1, 1, 1, 1]]
  ])("%s fires so often in the six zones: %j", (cron, expected) => {
    assert.deepStrictEqual(counts(cron), [...expected])
  })

  it.each<readonly [zone: string, from: string, to: string, fire: string]>([
    ["America/New_York", "2026-11-01T04:00Z", "2026-11-02T05:00Z", "2026-11-01T05:45Z"],
    ["Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z", "2026-10-25T00:45Z"],
    ["Australia/Lord_Howe", "2026-04-04T13:00Z", "2026-04-05T13:30Z", "2026-04-04T14:45Z"],
    ["Pacific/Apia", "2021-04-03T10:00Z", "2021-04-04T11:00Z", "2021-04-03T13:45Z"],
    ["Africa/Casablanca", "2025-02-22T23:00Z", "2025-02-24T00:00Z", "2025-02-23T01:45Z"]
  ])("a fixed time that comes twice in %s fires the first time", (zone, from, to, fire) => {
    const hour = daysWithRepeatedTimes.find(([name]) => name === zone)![3]
    assert.deepStrictEqual(fires(`45 ${hour} * * *`, zone, from, to), [fire])
  })
})

describe("nextFire, on the day on which clocks go forward", () => {
  const counts = (cron: string) =>
    daysWithSkippedTimes.map(
      ([zone, from, to, hour]) => fires(cron.replace("H", String(hour)), zone, from, to).length
    )

  it.each<readonly [cron: string, counts: ReadonlyArray<number>]>([
    ["*/30 * * * *", [46, 46, 47, 46, 46, 48]],
    ["*/5 * * * *", [276, 276, 282, 276, 276, 288]],
    ["* * * * *", [1380, 1380, 1410, 1380, 1380, 1440]],
    ["15 * * * *", [23, 23, 23, 23, 23, 24]],
    ["15 */1 * * *", [23, 23, 23, 23, 23, 24]],
    // in Lord Howe the second half of the hour is not skipped
    ["*/10 H * * *", [1, 1, 3, 1, 1, 6]],
    ["15 H * * *", [1, 1, 1, 1, 1, 1]],
    ["0,15 H * * *", [1, 1, 1, 1, 1, 2]],
    ["* 15 H * * *", [1, 1, 1, 1, 1, 60]],
    ["0 12 * * *", [1, 1, 1, 1, 1, 1]]
  ])("%s fires so often in the six zones: %j", (cron, expected) => {
    assert.deepStrictEqual(counts(cron), [...expected])
  })

  it.each<readonly [zone: string, from: string, to: string, fire: string]>([
    ["America/New_York", "2026-03-08T05:00Z", "2026-03-09T04:00Z", "2026-03-08T07:00Z"],
    ["Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z", "2026-03-29T01:00Z"],
    ["Australia/Lord_Howe", "2026-10-03T13:30Z", "2026-10-04T13:00Z", "2026-10-03T15:30Z"],
    ["Pacific/Apia", "2020-09-26T11:00Z", "2020-09-27T10:00Z", "2020-09-26T14:00Z"],
    ["Africa/Casablanca", "2025-04-06T00:00Z", "2025-04-06T23:00Z", "2025-04-06T02:00Z"]
  ])("a fixed time that is skipped in %s fires at the end of the gap", (zone, from, to, fire) => {
    const hour = daysWithSkippedTimes.find(([name]) => name === zone)![3]
    assert.deepStrictEqual(fires(`15 ${hour} * * *`, zone, from, to), [fire])
  })

  it("a skipped time and a time at the end of the gap are one fire", () => {
    assert.deepStrictEqual(
      fires("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
      ["2026-03-29T01:00Z", "2026-03-29T01:30Z"]
    )
  })

  it("a date that a zone skips is a gap", () => {
    // Apia skipped 30 December 2011, a Friday
    const left = (cron: string) => fires(cron, "Pacific/Apia", "2011-12-29T10:00Z", "2011-12-31T10:00Z")
    assert.deepStrictEqual(left("0 9,17 30 12 *"), ["2011-12-30T10:00Z"])
    assert.deepStrictEqual(left("0 9 * * 5"), ["2011-12-30T10:00Z"])
    assert.deepStrictEqual(left("30 * 30 12 *"), [])
    assert.lengthOf(left("30 * * * *"), 48)
  })
})

describe("nextFire", () => {
  it.each<readonly [cron: string, timezone: string | undefined, after: string, due: string]>([
    ["0 9 * * *", undefined, "2026-01-01T10:00:00Z", "2026-01-02T09:00:00.000Z"],
    ["0 9 * * *", undefined, "2026-01-01T09:00:00Z", "2026-01-02T09:00:00.000Z"],
    ["0 9 * * *", undefined, "2026-01-01T08:59:59.999Z", "2026-01-01T09:00:00.000Z"],
    ["0 9 * * *", "Europe/Berlin", "2026-01-01T10:00:00Z", "2026-01-02T08:00:00.000Z"],
    ["0 9 * * *", "+05:30", "2026-01-01T10:00:00Z", "2026-01-02T03:30:00.000Z"],
    ["0 */6 * * *", "UTC", "2026-01-01T10:00:00Z", "2026-01-01T12:00:00.000Z"],
    ["30 0 9 * * *", undefined, "2026-01-01T10:00:00Z", "2026-01-02T09:00:30.000Z"],
    ["0 9 * * 1-5", undefined, "2026-01-02T10:00:00Z", "2026-01-05T09:00:00.000Z"],
    ["30 2 29 2 *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2028-02-29T01:30:00.000Z"],
    ["30 2 29 3 *", "Europe/Berlin", "2025-12-01T00:00:00Z", "2026-03-29T01:00:00.000Z"],
    ["30 2 25 10 *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2027-10-25T00:30:00.000Z"],
    ["59 * 25 10 *", "Europe/Berlin", "2026-10-25T00:59:00Z", "2026-10-25T01:59:00.000Z"]
  ])("%s in %s is due after %s at %s", (cron, timezone, after, due) => {
    assert.strictEqual(
      new Date(nextFire(parseSchedule(cron, timezone), Date.parse(after))).toISOString(),
      due
    )
  })

  /** What the clock of a zone shows in each minute, as an instant in UTC. */
  const readings = (zone: string, from: number, to: number): ReadonlyArray<number> => {
    const timeZone = DateTime.zoneMakeNamedUnsafe(zone)
    return Array.from({ length: (to - from) / minute }, (_, i) => {
      const at = from + i * minute
      return at + DateTime.zonedOffset(DateTime.makeZonedUnsafe(at, { timeZone }))
    })
  }

  /** The literal definition: which of these readings are fires. It does not search for changes of the clock. */
  const firesAmong = (cron: string, shown: ReadonlyArray<number>): ReadonlyArray<number> => {
    const local = Cron.parseUnsafe(cron, "UTC")
    const [minutes = "", hours = ""] = cron.split(" ")
    const seen = new Set<number>()
    return shown.flatMap((now, i) => {
      let due = Cron.match(local, new Date(now)) && (/[*/]/.test(minutes + hours) || !seen.has(now))
      seen.add(now)
      for (let skipped = (shown[i - 1] ?? now) + minute; skipped < now; skipped += minute) {
        due ||= Cron.match(local, new Date(skipped)) && !/[*/]/.test(hours)
      }
      return due ? [i] : []
    })
  }

  it.each([...daysWithRepeatedTimes, ...daysWithSkippedTimes])(
    "in %s it agrees with a clock that is read every minute, from %s to %s",
    (zone, from, to) => {
      const shown = readings(zone, Date.parse(from), Date.parse(to))
      for (const [nth, minutes] of ["*", "*/7", "59", "0,15,30,45"].entries()) {
        for (const [other, hours] of ["*", "*/2", "1", "2", "3", "0-4"].entries()) {
          // a short run takes a third of the pairs, in which each field of minutes and of hours occurs
          if (!isLong && (nth + other) % 3 !== 0) continue
          const cron = `${minutes} ${hours} * * *`
          const expected = firesAmong(cron, shown).map((i) =>
            new Date(Date.parse(from) + i * minute).toISOString().replace(":00.000Z", "Z")
          )
          assert.deepStrictEqual(fires(cron, zone, from, to), expected, cron)
        }
      }
    }
  )
})

describe("lastFire", () => {
  it.each<readonly [cron: string, after: string, until: string, last: string | undefined]>([
    ["0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T05:20:00Z", "2026-01-01T05:00:00.000Z"],
    ["0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T05:00:00Z", "2026-01-01T05:00:00.000Z"],
    ["0 * * * *", "2026-01-01T05:00:00Z", "2026-01-01T05:59:59.999Z", undefined],
    ["* * * * * *", "2016-01-01T00:00:00Z", "2026-01-01T00:00:00.500Z", "2026-01-01T00:00:00.000Z"],
    ["30 2 * * *", "2026-03-27T12:00:00Z", "2026-03-29T12:00:00Z", "2026-03-29T01:00:00.000Z"],
    ["30 2 * * *", "2026-10-23T12:00:00Z", "2026-10-25T12:00:00Z", "2026-10-25T00:30:00.000Z"]
  ])("of %s in Berlin, after %s and until %s, is %s", (cron, after, until, last) => {
    const at = lastFire(parseSchedule(cron, "Europe/Berlin"), Date.parse(after), Date.parse(until))
    assert.strictEqual(at === undefined ? undefined : new Date(at).toISOString(), last)
  })
})

describe("parseSchedule", () => {
  it.each<readonly [cron: string, timezone: string | undefined, message: RegExp]>([
    ["", undefined, /"" is not a cron schedule/],
    ["* * * *", undefined, /is not a cron schedule: .*number of segments.*Write minute/],
    ["60 * * * *", undefined, /"60 \* \* \* \*" is not a cron schedule/],
    ["0 9 * * *", "Mars", /"Mars" is not a time zone.*Europe\/Berlin/]
  ])("refuses %o in %s", (cron, timezone, message) => {
    assert.throws(() => parseSchedule(cron, timezone), ValidationError)
    assert.throws(() => parseSchedule(cron, timezone), message)
  })
})
