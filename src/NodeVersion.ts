/** Checks whether the engine and the command can run on this runtime: on this version of Node.js, or on Bun. */

/**
 * The first version whose SQLite takes numbered parameters (`?1`). The packages `@effect/platform-node` and `undici`
 * need only 22.19.
 */
const OLDEST = [22, 20] as const

/**
 * What is wrong with the version of this Node.js; `undefined` when it is new enough, and also on Bun and Deno. A
 * feature that Deno or Bun lacks fails when it is used.
 */
export const nodeProblem = (): string | undefined => {
  const { bun, deno, node } = process.versions
  const [major = 0, minor = 0] = node.split(".").map(Number)
  const isNew = major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
  if (isNew || bun !== undefined || deno !== undefined) return undefined
  return `This is Node.js ${node}, but ironflow needs ${OLDEST.join(".")} or later: install a newer one`
}

/**
 * Why this runtime cannot run a listening engine or the command; `undefined` when it can. `what` names the engine or
 * the command, and `instead` is a sentence with what to do.
 */
export const runtimeProblem = (what: string, instead: string): string | undefined => {
  const { bun } = process.versions
  if (bun === undefined) return undefined
  return (
    `This is Bun ${bun}, and ${what} needs Node.js: on Bun an engine that listens loses the WebSockets of its clients and ` +
    `workers in the middle of calls. ${instead}`
  )
}
