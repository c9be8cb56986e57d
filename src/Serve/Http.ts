/** A request to a push handler and its response, whatever the framework. */
import { BodyError, type IronflowError } from "../Errors.ts"

/** A request to a push handler, from any server. */
export interface ServeRequest {
  /** `POST` when left out. */
  readonly method?: string
  /** The path with its query, or the whole URL. */
  readonly url: string
  /** The headers by lower-case name. A header that was sent several times has its first value. */
  readonly headers: { readonly [name: string]: string }
  /**
   * Reads the bytes of the body as they were sent. Rejects with the code `BODY_CONSUMED` when the body was read
   * before, with `BODY_TOO_LARGE`, or with `BODY_TRUNCATED`. `onBytes` is called after each chunk, with the number of
   * bytes so far. If `onBytes` throws, reading stops and rejects with that error.
   */
  readonly readBody: (maxBytes: number, onBytes?: (size: number) => void) => Promise<Uint8Array>
  /** What an earlier parser made of the body, when its bytes are no longer there. */
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

export const bodyConsumedError = (likely: string): IronflowError =>
  new BodyError(
    `The body of the request was already read, probably by ${likely}. The signature covers the raw bytes of the body, which are gone. ` +
      "Mount the handler before the parser, or let the parser keep the raw body",
    { code: "BODY_CONSUMED", status: 500 }
  )

export const bodyTooLargeError = (maxBytes: number): IronflowError =>
  new BodyError(`The body of the request has more than ${maxBytes} bytes`, {
    code: "BODY_TOO_LARGE",
    status: 413
  })

export const bodyTruncatedError = (cause: unknown): IronflowError =>
  new BodyError("The body of the request ended before it was complete", {
    code: "BODY_TRUNCATED",
    status: 400,
    cause
  })
