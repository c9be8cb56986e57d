/** Computes the next times of schedules, as the engine does, and describes triggers. */
import type { FunctionInfo, FunctionTrigger } from "../../Protocol/Functions.ts"
import { nextFire, parseSchedule } from "../../Schedule.ts"

export interface FunctionSchedule extends FunctionTrigger {
  readonly functionId: string
  readonly cron: string
  /** Whether the function is paused, so that its schedules do not fire. */
  readonly isPaused: boolean
}

/** The schedules of a function. */
export const schedulesOf = ({ id, paused, triggers }: FunctionInfo): ReadonlyArray<FunctionSchedule> =>
  triggers.flatMap((trigger) => {
    const { cron } = trigger
    return cron === undefined ? [] : [{ ...trigger, functionId: id, cron, isPaused: paused !== undefined }]
  })

/** The next times of a schedule, as ISO strings. Empty when the schedule cannot be read, or never fires. */
export const nextFires = (
  { cron, timezone }: FunctionSchedule,
  after: number,
  limit: number
): ReadonlyArray<string> => {
  const times: Array<string> = []
  try {
    const schedule = parseSchedule(cron, timezone)
    for (let at = after; times.length < limit;) {
      at = nextFire(schedule, at)
      times.push(new Date(at).toISOString())
    }
  } catch {
    // no times: a legacy server may have accepted another cron syntax
  }
  return times
}

/** A trigger in words: `order.* if event.data.total > 100`, or `cron 0 9 * * * Europe/Berlin`. */
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
