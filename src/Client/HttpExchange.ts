/** A request to a server and what it answers, whatever they travel over. */
import type { Method } from "../Protocol/Http/Endpoints.ts"

export interface Request {
  readonly method: Method
  /** Begins with a slash. */
  readonly path: string
  /** JSON text, or what `contentType` names. */
  readonly body?: string | Uint8Array
  /** `application/json` by default. */
  readonly contentType?: string
  /** What is being done, as the start of a sentence: `getRun("run_1")`. */
  readonly what: string
  /** Instead of the server's. */
  readonly timeoutMs?: number
  readonly headers?: { readonly [name: string]: string }
  /** The `traceparent` of the span that it is part of. */
  readonly trace?: string
}

/** Whatever the status. */
export interface Answer {
  readonly status: number
  readonly text: string
  /** The program that says it has answered, when it is not a success. */
  readonly by?: string
}
