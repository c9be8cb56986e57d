/** What stands where data was that was erased. */
import { isObject } from "./Json.ts"

/** In place of data of a person that was erased: `{ "$erased": "2026-11-29T20:00:00.000Z" }`, and when that was. */
export interface Erased {
  /** When the data was erased: an ISO string. */
  readonly $erased: string
}

/** Whether a value is the mark of data that was erased: see `client.erase`. */
export const isErased = (value: unknown): value is Erased =>
  isObject(value) && typeof value.$erased === "string" && Object.keys(value).length === 1
