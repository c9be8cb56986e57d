/** Recognizes the errors of an engine that refuses the API key of a worker, or the permissions of the key. */
import { type AccessError, UnauthenticatedError, UnauthorizedError } from "../Errors.ts"

export const isAccessError = (error: unknown): error is AccessError =>
  error instanceof UnauthenticatedError || error instanceof UnauthorizedError
