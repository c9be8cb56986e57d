/** Detects an `https:` address of a port that speaks plain HTTP, and the reverse. */
import { ENV_VARS } from "../Constants.ts"

/** The chain of causes of a failed request: `fetch` wraps the error, and an error for several addresses has several. */
export const causesOf = function* (error: unknown): Generator<Error> {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; depth++) {
    yield cause
    cause = cause.cause ?? (cause instanceof AggregateError ? cause.errors[0] : undefined)
  }
}

/** The problem, as a verb phrase, when a server did not answer the TLS handshake with TLS; else `undefined`. */
export const tlsProblem = (url: string, error: unknown): string | undefined => {
  if (!/^https:/i.test(url)) return undefined
  for (const { message } of causesOf(error)) {
    if (/wrong version number|packet length too long/i.test(message)) {
      return `speaks HTTP without TLS there: write ${url.replace(/^https:/i, "http:")} in \`serverUrl\` or ${ENV_VARS.SERVER_URL}`
    }
  }
  return undefined
}

/** Advice, as a sentence, for a server that may speak TLS at an `http:` address; "" if it does not apply. */
export const mayNeedTls = (url: string): string =>
  /^http:/i.test(url) ? `. If it speaks TLS there, write ${url.replace(/^http:/i, "https:")}` : ""
