/** Which version of its code a run continues with, if a function has several. */

/** `"latest"`: any worker that has the function. `"pin"`: only workers of the version that the run began with. */
export const versionings = ["latest", "pin"] as const
export type Versioning = (typeof versionings)[number]

/** The version of a function's code: the configured one, else the hash of its source. */
export const codeVersionOf = ({
  codeHash,
  version
}: {
  readonly codeHash: string
  readonly version?: string
}): string => version ?? codeHash
