/** The URLs that the engine calls: those of push endpoints and hooks. */
import { ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/** Normalizes a URL. Throws `ValidationError` for an invalid one. `what` names it in the message. */
export const checkEndpointUrl = (text: unknown, what: string): string => {
  const url = typeof text === "string" && text.length <= 2048 ? URL.parse(text) : null
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new ValidationError(
      `${what} must be an HTTP URL such as "https://shop.example.com/api/ironflow", got ${show(text)}`
    )
  }
  if (url.username !== "" || url.password !== "" || url.hash !== "") {
    throw new ValidationError(
      `${what} (at ${url.host}) must have neither credentials nor a fragment: requests are signed instead`
    )
  }
  return url.href
}
