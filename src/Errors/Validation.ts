/** Errors of input, or of a state that does not allow the operation. */
import { type CauseOption, type Facts, IronflowError } from "./Base.ts"

/** The options of a `ValidationError`. */
export interface ValidationErrorOptions extends CauseOption {
  /** One `path: problem` for each problem. */
  readonly validationErrors?: ReadonlyArray<string>
  /** `VALIDATION_ERROR` by default. */
  readonly code?: string
  /** Whether a retry may succeed; `false` by default. */
  readonly retryable?: boolean
  /** Details for programs; none by default. */
  readonly details?: unknown
}

/** An input is invalid: a configuration, an argument or a value. */
export class ValidationError extends IronflowError {
  declare readonly _tag: "ValidationError"
  /** The problems, one sentence each, with the path where there is one. */
  readonly validationErrors: Array<string>
  constructor(message: string, options: ValidationErrorOptions = {}) {
    super(message, {
      ...options,
      code: options.code ?? "VALIDATION_ERROR",
      retryable: options.retryable ?? false
    })
    this.validationErrors = [...(options.validationErrors ?? [])]
  }
}

/** Data does not fit the schema against which it was checked. `validationErrors` lists the problems, with their paths. */
export class SchemaValidationError extends ValidationError {}

/** Something is larger than the engine's limit. Nothing was stored, and the operation is not retried. */
export class LimitExceededError extends ValidationError {
  /** What is too large. */
  readonly what: string
  /** The size in `unit`. If the check stopped at the limit, this is the size at that point, and the real one may be larger. */
  readonly size: number
  /** The limit, in `unit`. */
  readonly limit: number
  /** `bytes`, `steps` and others. */
  readonly unit: string
  constructor(
    what: string,
    size: number,
    limit: number,
    unit: string,
    options: {
      /** Whether the check stopped at the limit, so that the real size may be larger than `size`; `false` by default. */
      readonly isLowerBound?: boolean
      /** What to do, as a sentence without its full stop; none by default. */
      readonly advice?: string
    } = {}
  ) {
    const how =
      options.isLowerBound === true
        ? `more than ${limit} ${unit}`
        : `${size} ${unit}, and the limit is ${limit} ${unit}`
    super(`${what} is too large: ${how}${options.advice === undefined ? "" : `. ${options.advice}`}`, {
      code: "LIMIT_EXCEEDED"
    })
    this.what = what
    this.size = size
    this.limit = limit
    this.unit = unit
  }
}

/** The object of the operation, such as a run or an entity stream, is in a state that does not allow the operation. */
export class InvalidStateError extends IronflowError {
  declare readonly _tag: "InvalidStateError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "INVALID_STATE" })
  }
}
