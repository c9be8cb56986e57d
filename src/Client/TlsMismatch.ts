/** An address with `https:` in front of a port that speaks plain HTTP, and the other way round. */
import { ENV_VARS } from "../Constants.ts"

/** Where the cause of a failed request says what it is: `fetch` wraps it, and one for several addresses wraps those. */
export const causesOf = function* (error: unknown): Generator<Error> {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; depth++) {
    yield cause
    cause = cause.cause ?? (cause instanceof AggregateError ? cause.errors[0] : undefined)
  }
}

/** What is wrong with a server that did not answer the handshake of TLS with one, as a verb phrase; else `undefined`. */
export const speaksPlainly = (url: string, error: unknown): string | undefined => {
  if (!/^https:/i.test(url)) return undefined
  for (const { message } of causesOf(error)) {
    if (/wrong version number|packet length too long/i.test(message)) {
      return `speaks HTTP without TLS there: write ${url.replace(/^https:/i, "http:")} in \`serverUrl\` or ${ENV_VARS.SERVER_URL}`
    }
  }
  return undefined
}

/** What to do about a server that may speak TLS while its address has `http:`, as a sentence; "" when it has not. */
export const mayNeedTls = (url: string): string =>
  /^http:/i.test(url) ? `. If it speaks TLS there, write ${url.replace(/^http:/i, "https:")}` : ""
