/** The error for a call without a key. */
import { UnauthenticatedError } from "../../Errors.ts"

export const keyNeededError = (): UnauthenticatedError =>
  new UnauthenticatedError(
    "This engine requires an API key: give it as `apiKey`, or set IRONFLOW_API_KEY. `ironflow apikeys create` makes one"
  )
