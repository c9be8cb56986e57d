import type { EngineError, NondeterminismError, TimersFakedError } from "../Errors.ts"

/**
 * Failures of the test kits: the failures of the engine, a run whose replay diverged, and timers that were
 * fake when the kits were loaded.
 */
export type TestError = EngineError | NondeterminismError | TimersFakedError
