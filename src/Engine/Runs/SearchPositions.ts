/** The places of runs in the order of a search, and what a search reads of a row besides the run. */
import { entityOfRow } from "../Log/EventViews.ts"
import type { Row } from "../Store/Transaction.ts"
import { jobEvent } from "./RunEvent.ts"
import type { FoundRun } from "./RunSearchRows.ts"

/** The place of a run: the log position of its event, which is 0 for plans that are not ordered by events, and its key. */
export interface RunPosition {
  readonly event: number
  readonly key: number
}

export const positionOf = (row: Row): RunPosition => ({ event: Number(row.event), key: Number(row.key) })

/** Whether `one` is older than `other`, and so comes later in a search. */
export const isBefore = (one: RunPosition, other: RunPosition): boolean =>
  one.event < other.event || (one.event === other.event && one.key < other.key)

export const lengthOfRow = (row: Row): number => {
  let length = 0
  for (const name in row) {
    const value = row[name]
    if (typeof value === "string") length += value.length
  }
  return length
}

export const startOfRow = (row: Row): Pick<FoundRun, "startedBy" | "systemEvent"> => {
  if (row.input !== null) return row.system_event == null ? {} : { systemEvent: String(row.system_event) }
  const { id, metadata, name, source, timestamp, version } = jobEvent(row)
  return {
    startedBy: {
      id,
      name,
      version,
      timestamp: new Date(timestamp).toISOString(),
      ...(metadata === undefined ? {} : { metadata }),
      ...(source === undefined ? {} : { source }),
      ...entityOfRow(row)
    }
  }
}
