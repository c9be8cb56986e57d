import type { EngineError, NondeterminismError, TimersFakedError } from "../Errors.ts"

/**
 * Failures of the test kits: those of the engine, a run that diverged in its replay, or timers that were faked before
 * the kits were loaded.
 */
export type TestError = EngineError | NondeterminismError | TimersFakedError
