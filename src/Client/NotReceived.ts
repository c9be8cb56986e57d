/** Marks calls that the server certainly did not receive, so that they are safe to repeat. */
import type { ConnectionError } from "../Errors.ts"
import { isObject } from "../Json.ts"

/** `details` of the error of a call that the server did not receive. */
export const NOT_RECEIVED = { received: false } as const

export const isSurelyNotReceived = ({ details }: ConnectionError): boolean =>
  isObject(details) && details.received === NOT_RECEIVED.received
