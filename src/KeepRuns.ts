/** How long the runs of a function are kept after their end. */
import { type Duration, positiveDuration } from "./Duration.ts"
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { endedStatuses } from "./RunStatus.ts"
import { show } from "./Show.ts"

/** How long runs are kept, by final status. For a status that is not named, the engine's setting applies. */
interface KeepRunsByStatus {
  readonly completed?: Duration | "forever"
  readonly failed?: Duration | "forever"
  readonly cancelled?: Duration | "forever"
}

/** One duration for all runs, such as `"7d"`, or one for each final status. */
export type KeepRuns = Duration | "forever" | KeepRunsByStatus

/** The option as a function registers it: how long runs are kept, in milliseconds, by final status. */
export interface KeptRuns {
  readonly completed?: number | "forever"
  readonly failed?: number | "forever"
  readonly cancelled?: number | "forever"
}

/** Checks and converts the option. Throws `ValidationError`; `what` names the option. */
export const keptRuns = (keep: unknown, what: string): KeptRuns => {
  const retentionOf = (value: unknown, name: string): number | "forever" =>
    // `positiveDuration` refuses a value that is no duration
    value === "forever" ? value : positiveDuration(value as Duration, name)
  if (!isObject(keep)) {
    const all = retentionOf(keep, what)
    return Object.fromEntries(endedStatuses.map((status) => [status, all]))
  }
  const unknown = Object.keys(keep).find((name) => !(endedStatuses as ReadonlyArray<string>).includes(name))
  if (unknown !== undefined) {
    throw new ValidationError(
      `${what} has ${show(unknown)}, which is not a status of a run that has ended: use ${endedStatuses.join(", ")}`
    )
  }
  return Object.fromEntries(
    endedStatuses.flatMap((status) =>
      keep[status] === undefined ? [] : [[status, retentionOf(keep[status], `\`${status}\` in ${what}`)]]
    )
  )
}
