/** Which partition of a projection an event belongs to. */
import { checkName } from "../Limits.ts"
import { readPath } from "../Path.ts"

/** The partition of a projection without partitions, and of events without a value at the partition's path. */
export const GLOBAL_PARTITION = "__global__"

/** The partition that a value stands for: texts as they are, other values as JSON. Throws when it cannot be a name. */
export const partitionOf = (value: unknown): string =>
  value === undefined || value === null || value === ""
    ? GLOBAL_PARTITION
    : checkName("partition", typeof value === "string" ? value : JSON.stringify(value))

/** The partition by a path into the event, which may begin with `event`, as paths of functions do. */
export const partitionAt = (event: object, path: string): string =>
  partitionOf(readPath(event, path) ?? readPath({ event }, path))
