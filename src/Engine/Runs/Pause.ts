/** Why a run is paused, as its row stores it. */
import { parseStored } from "../Store/StoredJson.ts"
import type { Row } from "../Store/Transaction.ts"

/** Why a run is paused, and the status that it returns to. */
export interface Pause {
  readonly code: string
  readonly message: string
  readonly details?: unknown
  readonly wasCompensating?: boolean
}

/** The pause in a row of `runs` that has one. The run is paused, or the pause was requested while a worker held the run. */
export const readPause = (row: Row): Pause =>
  // written by `pauseRow` or `pauseRun`
  parseStored(String(row.pause)) as Pause
