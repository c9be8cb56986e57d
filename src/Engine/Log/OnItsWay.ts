/** Events that are being delivered to the waits for them. */
import { statement, type Program, get } from "../Store/Program.ts"

const OLDEST_ON_ITS_WAY = statement(
  "OnItsWay.oldestOnItsWay",
  "SELECT position FROM fan_outs WHERE environment = ? AND event = ? @sound(event, position) ORDER BY position LIMIT 1"
)

/** Position of the oldest event in delivery under a name. */
export function* oldestOnItsWay(environment: number, name: string): Program<number | undefined> {
  const row = yield* get(OLDEST_ON_ITS_WAY, environment, name)
  return row === undefined ? undefined : Number(row.position)
}

const NEWEST_ON_ITS_WAY = statement(
  "OnItsWay.newestOnItsWay",
  "SELECT position FROM fan_outs WHERE environment = ? AND event = ? ORDER BY position DESC LIMIT 1"
)

/** Position of the newest one. */
export function* newestOnItsWay(environment: number, name: string): Program<number | undefined> {
  const row = yield* get(NEWEST_ON_ITS_WAY, environment, name)
  return row === undefined ? undefined : Number(row.position)
}
