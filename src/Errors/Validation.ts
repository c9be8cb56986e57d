/** What was given, or the state it met, does not allow what was asked for. */
import { type CauseOption, type Facts, IronflowError } from "./Base.ts"

export interface ValidationErrorOptions extends CauseOption {
  /** One `path: problem` for each thing that is wrong. */
  readonly validationErrors?: ReadonlyArray<string>
  readonly code?: string
  readonly details?: unknown
}

/** Something given is not acceptable: a configuration, an argument, a value. */
export class ValidationError extends IronflowError {
  declare readonly _tag: "ValidationError"
  readonly validationErrors: Array<string>
  constructor(message: string, options: ValidationErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "VALIDATION_ERROR", retryable: false })
    this.validationErrors = [...(options.validationErrors ?? [])]
  }
}

/** Data does not fit the schema it was checked against. `validationErrors` lists the paths. */
export class SchemaValidationError extends ValidationError {}

/** Something is larger than the engine stores. Nothing was stored, and it is not retried. */
export class LimitExceededError extends ValidationError {
  readonly what: string
  readonly size: number
  readonly limit: number
  readonly unit: string
  constructor(what: string, size: number, limit: number, unit: string) {
    super(`${what} is too large: ${size} ${unit}, and the limit is ${limit} ${unit}`, {
      code: "LIMIT_EXCEEDED"
    })
    this.what = what
    this.size = size
    this.limit = limit
    this.unit = unit
  }
}

/** The run or entity is in a state that does not allow the operation. */
export class InvalidStateError extends IronflowError {
  declare readonly _tag: "InvalidStateError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "INVALID_STATE" })
  }
}
