/** Errors of the testing tools. */
import { type Facts, IronflowError } from "./Base.ts"

/** Fake timers were installed before the test kits were loaded; the kits would wait forever. */
export class TimersFakedError extends IronflowError {
  declare readonly _tag: "TimersFakedError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "TIMERS_FAKED" })
  }
}

/** A tape has no response to a request, or cannot hold the request or its response. */
export class TapeError extends IronflowError {
  declare readonly _tag: "TapeError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "NOT_ON_TAPE" })
  }
}

/** A run could not be verified: the Effect handler of its function requires a service outside of the steps. */
export class ServiceMissingError extends IronflowError {
  declare readonly _tag: "ServiceMissingError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "SERVICE_MISSING" })
  }
}

/** A run is suspended, and nothing in the test resumes it. */
export class TestSuspendedError extends IronflowError {
  declare readonly _tag: "TestSuspendedError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "TEST_SUSPENDED" })
  }
}
