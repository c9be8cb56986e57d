/** In messages of this package, replaces the names of methods and options with commands and flags. */

/** The command that makes the call of a method. */
const commands: { readonly [method: string]: string } = {
  cancelBulk: "bulk cancel",
  cancelRun: "runs cancel",
  countRuns: "runs count",
  deleteFunction: "functions delete",
  explainEvent: "events why",
  forkRun: "runs fork",
  functionHistory: "functions history",
  getBulk: "bulk get",
  getEvent: "events get",
  getRun: "runs get",
  getRunAudit: "runs audit",
  getRunLogs: "runs logs",
  getRunSteps: "runs steps",
  listBulk: "bulk list",
  listEvents: "events list",
  listFunctions: "functions list",
  listRuns: "runs list",
  listStreams: "streams list",
  listTopics: "topics list",
  listWorkers: "workers list",
  liveVersions: "functions drain",
  moveRun: "runs move",
  patchStep: "runs patch",
  pauseFunction: "functions pause",
  pauseRun: "runs pause",
  resumeFunction: "functions resume",
  resumeRun: "runs resume",
  retryRun: "runs retry",
  runFunction: "functions run"
}

/**
 * The text that replaces the name of an option at the beginning of an error message: for each method, by its options.
 */
const replacements: { readonly [method: string]: { readonly [option: string]: string } } = {
  // in words, because the flag for `fromStep` is --from in `runs fork`, and --from-step in other commands
  bulk: { fromStep: "The step to run again from", reason: "--reason", version: "--version" },
  forkRun: { steps: "--patch" }
}

/** The flag that sets an option. */
const flags: { readonly [option: string]: string } = {
  after: "--after",
  by: "--by",
  cursor: "--cursor",
  fromVersion: "--from",
  functionId: "--function",
  leaseTerm: "--lease-term",
  limit: "--limit",
  maxConcurrentJobs: "--concurrency",
  serverUrl: "--server-url",
  since: "--since",
  timeLimit: "--time-limit",
  until: "--until"
}

/** The flag that sets a setting of a bucket. */
const bucketFlags: { readonly [field: string]: string } = {
  history: "--history",
  maxBytes: "--max-bytes",
  maxValueSize: "--max-value-size",
  ttlSeconds: "--ttl"
}

// not after a dot: a method after a dot is in code of the user
const METHOD = new RegExp(`(?<![.\\w])(${Object.keys(commands).join("|")})\\b(?:\\((?:"([^"]*)")?\\))?`, "g")
const OPTION = new RegExp(`\`(${Object.keys(flags).join("|")})\``, "g")

/** The message of an error, in the words of the command line. */
export const toCommandLineWords = (message: string): string =>
  message
    .replace("give the key as `apiKey`", "give the key as IRONFLOW_API_KEY")
    .replace("give it as `apiKey`, or set IRONFLOW_API_KEY", "set IRONFLOW_API_KEY to it")
    .replace("`apiKey` and IRONFLOW_API_KEY", "IRONFLOW_API_KEY")
    .replace("with `port` (0", "with --port (0")
    .replace("set `insecure: true`", "add --insecure")
    .replace("`corsOrigins`", "--cors-origin")
    .replace("`allowedHosts`", "--allowed-host")
    .replace("The `base` of the console", "--console-base")
    .replace("A `where` can", "--where can")
    .replace("in `attributes`", "of --attribute")
    .replace("deadLetters() lists", "`dead-letters` lists")
    .replace("`expires_in` of the API key", "--expires-in of the API key")
    .replace("`overlap` of the API key", "--overlap of the API key")
    .replace(
      /`(ttlSeconds|maxValueSize|maxBytes|history)` of bucket/,
      (_, field: string) => `${bucketFlags[field]} of bucket`
    )
    .replaceAll(/`url` of `hooks\[\d+\]`/g, "The URL of --hook")
    .replaceAll(/`hooks\[\d+\]`/g, "--hook")
    .replace("must be a `Date` or a text with a time", "must be a time")
    // a method at the start is the method that the user's command calls: its name is left out
    .replace(
      /^(listRuns|countRuns|listEvents|bulk|erase|forkRun|moveRun): (`(\w+)`|[a-z])?/,
      (_, method: string, begin = "", option: string | undefined) =>
        option === undefined ? begin.toUpperCase() : (replacements[method]?.[option] ?? begin)
    )
    .replace("`steps` of forkRun", "--patch")
    .replace(/^erase\(\)/, "`ironflow erase`")
    .replace(/^bulk\("(\w+)"\)/, "`ironflow runs $1`")
    .replace(/^explain\("([^"]*)"\)/, "`ironflow runs why $1`")
    .replace(/^The (limit|cursor|offset) of \w+ must/, "--$1 must")
    .replace(
      /is not one that [\w ]+ returned: pass the nextCursor of the previous page/,
      "is not one that this command printed: take the cursor of the previous page"
    )
    .replaceAll(OPTION, (_, option: string) => flags[option]!)
    .replaceAll(METHOD, (_, method: string, id: string | undefined) =>
      id === undefined ? `\`ironflow ${commands[method]}\`` : `\`ironflow ${commands[method]} ${id}\``
    )
