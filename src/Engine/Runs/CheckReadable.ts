/** Reads everything of a run that the engine may need, to find out whether the run can be read. */
import { StoreError } from "../../Errors.ts"
import { all, get, type Program, statement } from "../Store/Program.ts"
import { parseStoredIfAny } from "../Store/StoredJson.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { jobEvent } from "./RunEvent.ts"
import { readJournal, readOpenSteps } from "./Journal.ts"
import { readRun, WHOLE_RUNS } from "./RunRows.ts"
import { readOutcome } from "./Waits.ts"

const RUN = statement("CheckReadable.run", `${WHOLE_RUNS} WHERE r.key = ?`)

const FIND_EVENT = statement("CheckReadable.findEvent", "SELECT * FROM events WHERE position = ?")

const LIST_WAITS = statement("CheckReadable.listWaits", "SELECT * FROM waits WHERE run = ?")

/** Throws when any part of the run cannot be read. */
export function* checkRunReadable(tx: Transaction, key: number): Program<void> {
  const row = yield* get(RUN, key)
  if (row === undefined) throw new StoreError("its row is missing", { code: "STORE_CORRUPT" })
  yield* readRun(tx, row)
  yield* get(FIND_EVENT, row.event!)
  jobEvent(row)
  for (const { outcome } of yield* readJournal(tx, key)) {
    if (outcome._tag === "Success") parseStoredIfAny(outcome.value)
  }
  yield* readOpenSteps(key)
  for (const wait of yield* all(LIST_WAITS, key)) readOutcome({ failed: 0, ...wait })
}
