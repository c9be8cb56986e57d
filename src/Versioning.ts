/** With which version of its code a run continues, if its function has several. */

/**
 * `"latest"`: on any worker that has the function. `"pin"`: only on workers with the version that the run
 * began with.
 */
export const versionings = ["latest", "pin"] as const
export type Versioning = (typeof versionings)[number]

/** The version of a function's code: the one that is configured, or else the hash of its source. */
export const codeVersionOf = ({
  codeHash,
  version
}: {
  readonly codeHash: string
  readonly version?: string
}): string => version ?? codeHash
