/** Recognizes that a server is called with `https:` and speaks plain HTTP, or the reverse. */
import { ENV_VARS } from "../Constants.ts"

/**
 * The error of a failed request and its causes, at most eight in all. An `AggregateError`, with one error for each
 * address that was tried, is followed by the first of them.
 */
export const causesOf = function* (error: unknown): Generator<Error> {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; depth++) {
    yield cause
    cause = cause.cause ?? (cause instanceof AggregateError ? cause.errors[0] : undefined)
  }
}

/**
 * What went wrong, as a verb phrase, when a server has not answered the TLS handshake with TLS; `undefined`
 * for another error.
 */
export const tlsProblem = (url: string, error: unknown): string | undefined => {
  if (!/^https:/i.test(url)) return undefined
  for (const { message } of causesOf(error)) {
    if (/wrong version number|packet length too long/i.test(message)) {
      return `speaks HTTP without TLS there: write ${url.replace(/^https:/i, "http:")} in \`serverUrl\` or ${ENV_VARS.SERVER_URL}`
    }
  }
  return undefined
}

/** Advice, as a sentence, when a server at an `http:` address may speak TLS; "" for other addresses. */
export const mayNeedTls = (url: string): string =>
  /^http:/i.test(url) ? `. If it speaks TLS there, write ${url.replace(/^http:/i, "https:")}` : ""
