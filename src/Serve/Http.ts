/** A request to a push handler and its response, whichever framework they belong to. */
import { BodyError, type IronflowError } from "../Errors.ts"

/** A request, whatever server it came to. */
export interface ServeRequest {
  /** `POST` when left out. */
  readonly method?: string
  /** Path and query, or the whole URL. */
  readonly url: string
  /** By lower-case name; of a header that came several times the first value. */
  readonly headers: { readonly [name: string]: string }
  /**
   * The bytes of the body as they were sent. Rejects with `BODY_CONSUMED` when somebody has read it before,
   * `BODY_TOO_LARGE`, or `BODY_TRUNCATED`. Where they come in pieces, `onBytes` is told how many there are so far; what it throws is
   * the reason not to read on.
   */
  readonly readBody: (maxBytes: number, onBytes?: (size: number) => void) => Promise<Uint8Array>
  /** The body as a parser in front has left it, when the bytes are gone. */
  readonly parsedBody?: unknown
}

/** The answer to a request. */
export interface ServeResponse {
  /** The HTTP status. */
  readonly status: number
  /** Its headers, by name. */
  readonly headers: { readonly [name: string]: string }
  /** Its body. */
  readonly body: string
}

export const bodyConsumed = (likely: string): IronflowError =>
  new BodyError(
    `The body of the request was read before it came here, probably by ${likely}: its bytes are gone, and a signature is one of ` +
      "bytes. Mount the handler in front of the parser, or have the body handed over raw",
    { code: "BODY_CONSUMED", status: 500 }
  )

export const bodyTooLarge = (maxBytes: number): IronflowError =>
  new BodyError(`The body of the request has more than ${maxBytes} bytes`, {
    code: "BODY_TOO_LARGE",
    status: 413
  })

export const bodyTruncated = (cause: unknown): IronflowError =>
  new BodyError("The body of the request ended before it was complete", {
    code: "BODY_TRUNCATED",
    status: 400,
    cause
  })
