/** Points in time and durations, for people. */
import { signal } from "@preact/signals"
import { saveSetting, loadSetting } from "./BrowserStorage.ts"
import { now } from "./Clock.ts"

/** Whether times are shown in UTC. If not, they are in the time zone of the browser. */
export const isUtc = signal(loadSetting("utc") === "yes")
isUtc.subscribe((utc) => saveSetting("utc", utc ? "yes" : ""))

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000]
] as const

/** A duration in words: `340 ms`, `4.2 s`, `3 m 5 s`, `2 d 4 h`. */
export const duration = (ms: number): string => {
  const abs = Math.abs(ms)
  if (abs < 1000) return `${Math.round(abs)} ms`
  if (abs < 10_000) return `${(abs / 1000).toFixed(1)} s`
  const at = UNITS.findIndex(([, size]) => abs >= size)
  const [unit, size] = UNITS[at]!
  const next = UNITS[at + 1]
  const remainder = next === undefined ? 0 : Math.floor((abs % size) / next[1])
  return `${Math.floor(abs / size)} ${unit}${remainder === 0 ? "" : ` ${remainder} ${next![0]}`}`
}

/** A time in relation to `from`: `just now`, `3 m ago`, `in 2 h`. */
export const ago = (at: number, from: number): string => {
  const ms = from - at
  if (Math.abs(ms) < 1500) return "just now"
  const [unit, size] = UNITS.find(([, size]) => Math.abs(ms) >= size) ?? UNITS.at(-1)!
  const text = `${Math.floor(Math.abs(ms) / size)} ${unit}`
  return ms > 0 ? `${text} ago` : `in ${text}`
}

/** The exact time, in the chosen time zone. */
export const exactTime = (at: number): string => {
  const date = new Date(at)
  if (isUtc.value) return date.toISOString().replace("T", " ").replace("Z", " UTC")
  const padded = (value: number, length = 2): string => String(value).padStart(length, "0")
  const offset = -date.getTimezoneOffset()
  const zone = `${offset < 0 ? "-" : "+"}${padded(Math.floor(Math.abs(offset) / 60))}:${padded(Math.abs(offset) % 60)}`
  return (
    `${date.getFullYear()}-${padded(date.getMonth() + 1)}-${padded(date.getDate())} ` +
    `${padded(date.getHours())}:${padded(date.getMinutes())}:${padded(date.getSeconds())}.${padded(date.getMilliseconds(), 3)} ${zone}`
  )
}

/** A sentence of the engine, with its times in the chosen time zone. */
export const localizeTimes = (text: string): string =>
  text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, (time) => exactTime(Date.parse(time)))

/**
 * A point in time. Shows how long ago it was, and the exact time as a tooltip. With `exactly`, shows the exact time at
 * once.
 */
export const Time = ({
  at,
  exactly = false
}: {
  readonly at: string | undefined
  readonly exactly?: boolean
}) => {
  const ms = at === undefined ? Number.NaN : Date.parse(at)
  if (Number.isNaN(ms)) return <span class="quiet">–</span>
  return (
    <time dateTime={new Date(ms).toISOString()} title={exactTime(ms)}>
      {exactly ? exactTime(ms) : ago(ms, now.value)}
    </time>
  )
}
