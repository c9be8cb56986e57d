/**
 * Limits the filters of streams that share an HTTP/2 connection: in total they may be as long as those of one
 * connection to `/ws`.
 */
import type { IncomingMessage } from "node:http"
import type { Http2ServerRequest } from "node:http2"
import { LimitExceededError } from "../../Errors.ts"
import { MAX_FILTERS } from "../../Protocol/Subscriptions.ts"

export class FilterRoom {
  /** Characters of all filters, by connection. */
  readonly #lengths = new WeakMap<object, number>()

  /** Takes room for a filter. Returns a function that releases it. Throws `LimitExceededError`. */
  take(request: IncomingMessage | Http2ServerRequest, length: number): () => void {
    const line = ("stream" in request ? request.stream.session : undefined) ?? request.socket
    const all = this.#of(line) + length
    if (all > MAX_FILTERS) {
      throw new LimitExceededError("All filters of a connection together", all, MAX_FILTERS, "characters")
    }
    this.#lengths.set(line, all)
    return () => this.#lengths.set(line, this.#of(line) - length)
  }

  #of(line: object): number {
    return this.#lengths.get(line) ?? 0
  }
}
