/** How long the runs of a function are kept after their end. */
import { type Duration, positiveDuration } from "./Duration.ts"
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { endedStatuses } from "./RunStatus.ts"
import { show } from "./Show.ts"

/** How long by the way in which they have ended; those that are not named are kept as long as the engine keeps runs. */
interface KeepRunsByStatus {
  readonly completed?: Duration | "forever"
  readonly failed?: Duration | "forever"
  readonly cancelled?: Duration | "forever"
}

/** A time for all, such as `"7d"`, or for each way in which they end. */
export type KeepRuns = Duration | "forever" | KeepRunsByStatus

/** The same in milliseconds, as it is registered. */
export interface KeptRuns {
  readonly completed?: number | "forever"
  readonly failed?: number | "forever"
  readonly cancelled?: number | "forever"
}

/** Throws `ValidationError`; `what` names the option. */
export const keptRuns = (keep: unknown, what: string): KeptRuns => {
  const keptFor = (value: unknown, name: string): number | "forever" =>
    // what is no duration is told so
    value === "forever" ? value : positiveDuration(value as Duration, name)
  if (!isObject(keep)) {
    const all = keptFor(keep, what)
    return Object.fromEntries(endedStatuses.map((status) => [status, all]))
  }
  const unknown = Object.keys(keep).find((name) => !(endedStatuses as ReadonlyArray<string>).includes(name))
  if (unknown !== undefined) {
    throw new ValidationError(
      `${what} has ${show(unknown)}, which is no way in which a run ends: use ${endedStatuses.join(", ")}`
    )
  }
  return Object.fromEntries(
    endedStatuses.flatMap((status) =>
      keep[status] === undefined ? [] : [[status, keptFor(keep[status], `${what}, \`${status}\`,`)]]
    )
  )
}
