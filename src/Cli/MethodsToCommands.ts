/** In the engine's messages, replaces the names of methods with the commands that do the same. */

const commands: ReadonlyArray<readonly [method: RegExp, command: (runId: string) => string]> = [
  [/\bresumeRun\b/g, (runId) => `\`ironflow runs resume ${runId}\``],
  [/\bretryRun\b/g, (runId) => `\`ironflow runs retry ${runId}\``],
  [/\bcancelRun\b/g, (runId) => `\`ironflow runs cancel ${runId}\``],
  [/\bpatchStep\b/g, () => "`ironflow runs patch`"],
  [/\bgetRunSteps\b/g, (runId) => `\`ironflow runs steps ${runId}\``],
  [/\bmoveRun\b/g, (runId) => `\`ironflow runs move ${runId}\``],
  [/\bresumeFunction\b/g, () => "`ironflow functions resume`"],
  [/\bdeleteFunction\b/g, () => "`ironflow functions delete`"]
]

/** The message about a run, with commands in place of methods. */
export const methodsToCommands = (text: string, runId: string): string =>
  commands.reduce((result, [method, command]) => result.replace(method, () => command(runId)), text)
