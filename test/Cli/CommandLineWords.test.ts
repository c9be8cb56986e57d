/** The words of messages on the command line. */
import { expect, it } from "@effect/vitest"
import { toCommandLineWords } from "../../src/Cli/CommandLineWords.ts"

it.each([
  [
    "The limit of listRuns must be an integer from 1 to 1000, got 0",
    "--limit must be an integer from 1 to 1000, got 0"
  ],
  [
    "The offset of listStreams must be an integer, at least 0, got -1",
    "--offset must be an integer, at least 0, got -1"
  ],
  ["countRuns: `timeLimit` must be a whole number", "--time-limit must be a whole number"],
  ["bulk: `reason` is too large: 5000 characters", "--reason is too large: 5000 characters"],
  ["bulk: `fromStep` is too large", "The step to run again from is too large"],
  ["bulk: without a filter this would cancel all runs", "Without a filter this would cancel all runs"],
  ['erase: there is no bucket "profiles"', 'There is no bucket "profiles"'],
  [
    'forkRun: `steps` has two results for step "run_1:charge": give one result for each step',
    '--patch has two results for step "run_1:charge": give one result for each step'
  ],
  ["`steps` of forkRun is too large", "--patch is too large"],
  ['listRuns: "a b" in `attributes` is not a dotted path', '"a b" of --attribute is not a dotted path'],
  ["erase: `keys` must be a non-empty list", "`keys` must be a non-empty list"],
  ["erase: `events.since` must be a time", "`events.since` must be a time"],
  ["erase() is not possible", "`ironflow erase` is not possible"],
  ['bulk("cancel") is not possible', "`ironflow runs cancel` is not possible"],
  ['deleteFunction("ship.order") is not possible', "`ironflow functions delete ship.order` is not possible"],
  ['`version` of function "charge" must be', '`version` of function "charge" must be'],
  [
    '`fromVersion` of stream "x" must be an integer, at least 0',
    '--from of stream "x" must be an integer, at least 0'
  ],
  ["`url` of `hooks[0]` must be an HTTP URL", "The URL of --hook must be an HTTP URL"],
  ['getRunLogs("run_1") is not supported', "`ironflow runs logs run_1` is not supported"],
  [
    'Invalid `expires_in` of the API key: "5" is not a duration',
    'Invalid --expires-in of the API key: "5" is not a duration'
  ],
  ['`ttlSeconds` of bucket "b" must be a number', '--ttl of bucket "b" must be a number'],
  ["resume the run with resumeRun", "resume the run with `ironflow runs resume`"],
  ["client.listRuns is not a function", "client.listRuns is not a function"],
  ["`searchBy` of the function does not name it", "`searchBy` of the function does not name it"]
])("%s", (message, expected) => {
  expect(toCommandLineWords(message)).toBe(expected)
})
