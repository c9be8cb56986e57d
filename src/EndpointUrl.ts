/** URLs of push endpoints. */
import { ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/** Normalizes the URL of an endpoint. Throws `ValidationError` for an invalid one. */
export const checkEndpointUrl = (text: unknown): string => {
  const url = typeof text === "string" && text.length <= 2048 ? URL.parse(text) : null
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new ValidationError(
      `${show(text)} is not the URL of an endpoint: write it like "https://shop.example.com/api/ironflow"`
    )
  }
  if (url.username !== "" || url.password !== "" || url.hash !== "") {
    throw new ValidationError(
      `The URL of the endpoint at ${url.host} must have neither credentials nor a fragment: requests are signed instead`
    )
  }
  return url.href
}
