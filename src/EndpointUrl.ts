/** The URLs that the engine calls: those of push endpoints and hooks. */
import { ValidationError } from "./Errors.ts"
import { checkLength } from "./Limits.ts"
import { show } from "./Show.ts"

/** Maximum length of a URL that the engine calls, in characters. */
const MAX_LENGTH = 2048

/**
 * Normalizes a URL. Throws `ValidationError` for an invalid one, and `LimitExceededError` for one that is too
 * long. `what` names the URL in the message.
 */
export const checkEndpointUrl = (text: unknown, what: string): string => {
  if (typeof text === "string") checkLength(what, text, MAX_LENGTH)
  const url = typeof text === "string" ? URL.parse(text) : null
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new ValidationError(
      `${what} must be an HTTP URL such as "https://shop.example.com/api/ironflow", got ${show(text)}`
    )
  }
  if (url.username !== "" || url.password !== "") {
    throw new ValidationError(
      `${what} (at ${url.host}) must have no user and password: the engine signs its requests instead`
    )
  }
  if (url.hash !== "") {
    throw new ValidationError(
      `${what} (at ${url.host}) must have no fragment, the part from "#" on: it is never sent`
    )
  }
  return url.href
}
