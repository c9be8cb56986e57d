/** Computes the partition of a projection that an event belongs to. */
import { checkName } from "../Limits.ts"
import { readPath } from "../DataPath.ts"

/** The partition of a projection without partitions, and of events that have no value at the partition's path. */
export const GLOBAL_PARTITION = "__global__"

/**
 * The name of the partition for a value: a string as it is, any other value as JSON. Throws `ValidationError` when
 * the result is not a valid name.
 */
export const partitionOf = (value: unknown): string =>
  value === undefined || value === null || value === ""
    ? GLOBAL_PARTITION
    : checkName("partition", typeof value === "string" ? value : JSON.stringify(value))

/** The partition of an event by a path into the event. The path may begin with `event`, as the paths of functions do. */
export const partitionAt = (event: object, path: string): string =>
  partitionOf(readPath(event, path) ?? readPath({ event }, path))
