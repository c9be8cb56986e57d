/** Waits until an engine in this process has nothing left to do without waiting for time to pass. */

import { QUIET_TURNS } from "../../src/Engine/EventLoop.ts"
import { isSyncing } from "../../src/Engine/Store/WalSync.ts"

/** Lets all fibers, commits and callbacks run that do not wait for time to pass. */
export const untilQuiet = async (): Promise<void> => {
  for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
    await new Promise<void>((resolve) => setImmediate(resolve))
    if (isSyncing()) quiet = 0
  }
}
