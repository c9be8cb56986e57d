/** Finds events that are still being delivered to the waits for them. */
import { statement, type Program, get } from "../Store/Program.ts"

const FIND_OLDEST_FAN_OUT = statement(
  "WaitFanOuts.findOldestFanOut",
  "SELECT position FROM fan_outs WHERE environment = ? AND event = ? @sound(event, position) ORDER BY position LIMIT 1"
)

/** The position of the oldest event with this name that is being delivered; `undefined` when there is none. */
export function* oldestFanOut(environment: number, name: string): Program<number | undefined> {
  const row = yield* get(FIND_OLDEST_FAN_OUT, environment, name)
  return row === undefined ? undefined : Number(row.position)
}

const FIND_NEWEST_FAN_OUT = statement(
  "WaitFanOuts.findNewestFanOut",
  "SELECT position FROM fan_outs WHERE environment = ? AND event = ? ORDER BY position DESC LIMIT 1"
)

/** The position of the newest event with this name that is being delivered; `undefined` when there is none. */
export function* newestFanOut(environment: number, name: string): Program<number | undefined> {
  const row = yield* get(FIND_NEWEST_FAN_OUT, environment, name)
  return row === undefined ? undefined : Number(row.position)
}
