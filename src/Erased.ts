/** The mark that takes the place of erased data. */
import { isObject } from "./Json.ts"

/**
 * Takes the place of the erased data of a person, and says when the data was erased: `{ "$erased":
 * "2026-11-29T20:00:00.000Z" }`.
 */
export interface Erased {
  /** When the data was erased, as an ISO string. */
  readonly $erased: string
}

/** Whether a value is the mark of erased data: see `client.erase`. */
export const isErased = (value: unknown): value is Erased =>
  isObject(value) && typeof value.$erased === "string" && Object.keys(value).length === 1
