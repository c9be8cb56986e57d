/**
 * Limits the filters of the event streams that share a connection. Together these filters may be as long as the filters
 * of one connection to `/ws`.
 */
import type { IncomingMessage } from "node:http"
import type { Http2ServerRequest } from "node:http2"
import { LimitExceededError } from "../../Errors.ts"
import { MAX_FILTERS } from "../../Protocol/Subscriptions.ts"

export class FilterBudget {
  /** For each connection: the length of all its filters, in characters. */
  readonly #lengths = new WeakMap<object, number>()

  /**
   * Counts a filter of this length, and returns a function that removes it again. Throws `LimitExceededError` when the
   * filters of the connection become too long.
   */
  take(request: IncomingMessage | Http2ServerRequest, length: number): () => void {
    const connection = ("stream" in request ? request.stream.session : undefined) ?? request.socket
    const total = this.#lengthOf(connection) + length
    if (total > MAX_FILTERS) {
      throw new LimitExceededError(
        "The total length of the filters of one connection",
        total,
        MAX_FILTERS,
        "characters",
        { advice: "Shorten the filters, or use another connection" }
      )
    }
    this.#lengths.set(connection, total)
    return () => this.#lengths.set(connection, this.#lengthOf(connection) - length)
  }

  #lengthOf(connection: object): number {
    return this.#lengths.get(connection) ?? 0
  }
}
