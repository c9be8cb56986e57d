/**
 * Limits the filters of streams that share an HTTP/2 connection: in total they may be as long as those of one
 * connection to `/ws`.
 */
import type { IncomingMessage } from "node:http"
import type { Http2ServerRequest } from "node:http2"
import { LimitExceededError } from "../../Errors.ts"
import { MAX_FILTERS } from "../../Protocol/Subscriptions.ts"

export class FilterBudget {
  /** Characters of all filters, by connection. */
  readonly #lengths = new WeakMap<object, number>()

  /** Takes room for a filter. Returns a function that releases it. Throws `LimitExceededError`. */
  take(request: IncomingMessage | Http2ServerRequest, length: number): () => void {
    const connection = ("stream" in request ? request.stream.session : undefined) ?? request.socket
    const all = this.#of(connection) + length
    if (all > MAX_FILTERS) {
      throw new LimitExceededError("The filters of one connection together", all, MAX_FILTERS, "characters")
    }
    this.#lengths.set(connection, all)
    return () => this.#lengths.set(connection, this.#of(connection) - length)
  }

  #of(connection: object): number {
    return this.#lengths.get(connection) ?? 0
  }
}
