/** Waiting for an engine in this process to have done all that needs no time. */

import { QUIET_TURNS } from "../../src/Engine/LoopTurn.ts"

/** Lets everything happen that needs no time: fibers, commits, callbacks. */
export const untilQuiet = async (): Promise<void> => {
  for (let i = 0; i < QUIET_TURNS; i++) await new Promise<void>((resolve) => setImmediate(resolve))
}
