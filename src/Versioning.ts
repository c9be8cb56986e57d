/** With which code a run goes on, when a function has more than one version. */

/** `"latest"`: with whatever worker has the function. `"pin"`: with workers of the version that it began with, and no other. */
export const versionings = ["latest", "pin"] as const
export type Versioning = (typeof versionings)[number]

/** What the code of a function is called: the version that it was given, or else the hash of its source text. */
export const codeVersionOf = ({
  codeHash,
  version
}: {
  readonly codeHash: string
  readonly version?: string
}): string => version ?? codeHash
