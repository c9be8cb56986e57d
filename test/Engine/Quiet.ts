/** Waiting for an engine in this process to have done all that needs no time. */

import { QUIET_TURNS } from "../../src/Engine/LoopTurn.ts"
import { isSyncing } from "../../src/Engine/Store/LogSync.ts"

/** Lets everything happen that needs no time: fibers, commits, callbacks. */
export const untilQuiet = async (): Promise<void> => {
  for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
    await new Promise<void>((resolve) => setImmediate(resolve))
    if (isSyncing()) quiet = 0
  }
}
