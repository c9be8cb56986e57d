/** When schedules fire next, reckoned as the engine does. */
import type { FunctionInfo, FunctionTrigger } from "../../Protocol/Functions.ts"
import { nextFire, parseSchedule } from "../../Schedule.ts"

export interface ScheduleOf extends FunctionTrigger {
  readonly functionId: string
  readonly cron: string
  /** Whether its fires are left out, because the function is paused. */
  readonly isPaused: boolean
}

/** The schedules of a function. */
export const schedulesOf = ({ id, paused, triggers }: FunctionInfo): ReadonlyArray<ScheduleOf> =>
  triggers.flatMap((trigger) => {
    const { cron } = trigger
    return cron === undefined ? [] : [{ ...trigger, functionId: id, cron, isPaused: paused !== undefined }]
  })

/** The next times, as ISO strings; none of a schedule that cannot be read, or never comes. */
export const nextFires = (
  { cron, timezone }: ScheduleOf,
  after: number,
  many: number
): ReadonlyArray<string> => {
  const times: Array<string> = []
  try {
    const schedule = parseSchedule(cron, timezone)
    for (let at = after; times.length < many;) {
      at = nextFire(schedule, at)
      times.push(new Date(at).toISOString())
    }
  } catch {
    // what legacy servers have may be none of ours
  }
  return times
}

/** A trigger in words: `order.* if event.data.total > 100`, `cron 0 9 * * * Europe/Berlin`. */
export const triggerText = ({ cron, event, expression, overlap, timezone }: FunctionTrigger): string =>
  [
    event,
    cron === undefined ? undefined : `cron ${cron}`,
    timezone,
    overlap === undefined ? undefined : `overlap ${overlap}`,
    expression === undefined ? undefined : `if ${expression}`
  ]
    .filter((part) => part !== undefined)
    .join(" ")
