/** Which Node.js the engine and the command need. */

/** The first whose SQLite takes parameters by number (`?1`); `@effect/platform-node` and `undici` ask for 22.19. */
const OLDEST = [22, 20] as const

/** What is wrong with the Node.js that this runs on, if anything. Other runtimes say what they have when it is asked for. */
export const nodeProblem = (): string | undefined => {
  const { bun, deno, node } = process.versions
  const [major = 0, minor = 0] = node.split(".").map(Number)
  const isNew = major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
  if (isNew || bun !== undefined || deno !== undefined) return undefined
  return `This is Node.js ${node}, and ironflow needs ${OLDEST.join(".")} or later: install a newer one`
}

/** Why this runtime cannot carry an engine that listens, or the command, if it cannot; `what` is the one that is asked for. */
export const runtimeProblem = (what: string, instead: string): string | undefined => {
  const { bun } = process.versions
  if (bun === undefined) return undefined
  return (
    `This is Bun ${bun}, and ${what} needs Node.js: on Bun an engine that listens loses the WebSockets of its clients and ` +
    `workers in the middle of calls. ${instead}`
  )
}
