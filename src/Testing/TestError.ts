import type { EngineError, NondeterminismError, TimersFakedError } from "../Errors.ts"

/**
 * What the test kits fail with: what their engine fails with, a run that its replay found to go another way, or timers that were
 * faked before they were loaded.
 */
export type TestError = EngineError | NondeterminismError | TimersFakedError
