/**
 * Logs the webhook requests that a handler refuses: many senders do not repeat such a request, so its event is lost.
 *
 * Everyone can send requests with a wrong signature. So, of the refusals for the same reason, only one in ten seconds is
 * logged as a warning, which says how many others there were; the others are logged as debug lines. The refusal of a
 * request that has passed `verify` is always a warning.
 */
import type { IronflowError } from "../Errors.ts"
import type { Logger } from "../Logger.ts"

/** For how long a warning keeps others with the same reason from the log, in milliseconds. */
const QUIET_MS = 10_000

interface Refusals {
  /** When the last warning was logged, in epoch milliseconds. */
  readonly at: number
  /** How many refusals were not logged as warnings since then. */
  readonly others: number
}

export class RefusalLog {
  readonly #logger: Logger
  /** By webhook and code. Unknown webhooks share an entry, so that senders cannot add entries. */
  readonly #byReason = new Map<string, Refusals>()

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** Logs a refused request. `webhook` is the id of the webhook, if the handler has it. */
  add(webhook: string | undefined, status: number, error: IronflowError, nowMs: number): void {
    const { cause, code, message } = error
    const what = webhook === undefined ? "A webhook request" : `A request to webhook "${webhook}"`
    const line = `${what} was refused with ${status} (${code}): ${message}`
    // of the codes that are logged here, only this one means that `verify` was passed; the cause shows where `transform` has failed
    if (code === "TRANSFORM_FAILED") return this.#logger.warn(line, cause)
    const key = JSON.stringify([webhook, code])
    const last = this.#byReason.get(key)
    const isQuiet = last !== undefined && nowMs - last.at < QUIET_MS
    this.#byReason.set(key, isQuiet ? { ...last, others: last.others + 1 } : { at: nowMs, others: 0 })
    if (isQuiet) return this.#logger.debug(line)
    this.#logger.warn(
      last === undefined || last.others === 0
        ? line
        : `${line}. Since the last such line, ${last.others === 1 ? "1 other was" : `${last.others} others were`} refused for this reason`
    )
  }
}
