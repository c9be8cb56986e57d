/** A request to a server and its answer, whatever the transport. */
import type { Method } from "../Protocol/Http/CallAddress.ts"

export interface Request {
  readonly method: Method
  /** Path, with a leading slash. */
  readonly path: string
  /** JSON, or data of the type in `contentType`. */
  readonly body?: string | Uint8Array
  /** Content type of the body; `application/json` by default. */
  readonly contentType?: string
  /** The call in words, with which messages begin, such as `getRun("run_1")`. */
  readonly what: string
  /** Timeout of this request in milliseconds; by default the option `timeout` of the client. */
  readonly timeoutMs?: number
  readonly headers?: { readonly [name: string]: string }
  /** The `traceparent` of the request's span. */
  readonly trace?: string
}

/** An answer of any status. */
export interface Answer {
  readonly status: number
  readonly text: string
  /** The `server` header of the answer, which names the program. Only set with a status of 400 or more. */
  readonly serverHeader?: string
}
