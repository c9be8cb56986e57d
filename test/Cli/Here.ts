/**
 * Commands that run in this process, for tests of the requests and the output of a command. A process of its own, as `Terminal.ts`
 * starts it, takes fifty times as long. Tests of exit codes, signals, standard input and files need such a process.
 */
import { Console as Printer } from "node:console"
import { Writable } from "node:stream"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { exitCodeOfEnd, invoke } from "../../src/Cli/Invocation.ts"
import type { Ended } from "./Terminal.ts"

/** Environment variables, each with the flag that does the same: the variables of this process belong to all tests. */
const flags = {
  IRONFLOW_SERVER_URL: "--server-url",
  IRONFLOW_API_KEY: "--api-key",
  IRONFLOW_ENV: "--environment"
}

export interface HereOptions {
  readonly env?: { readonly [Name in keyof typeof flags]?: string }
}

/** Runs `ironflow` with these arguments to its end. */
export const runHere = async (
  args: ReadonlyArray<string>,
  { env = {} }: HereOptions = {}
): Promise<Ended> => {
  const given = Object.entries(env).flatMap(([name, value]) => {
    if (!(name in flags)) throw new Error(`No flag does what ${name} does`)
    return [flags[name as keyof typeof flags], value]
  })
  let stdout = ""
  let stderr = ""
  const printer = new Printer({
    stdout: new Writable({ write: (chunk, _, done) => done(void (stdout += chunk)) }),
    stderr: new Writable({ write: (chunk, _, done) => done(void (stderr += chunk)) })
  })
  const exit = await Effect.runPromiseExit(
    Effect.provideService(invoke([...args, ...given]), Console.Console, printer)
  )
  return { code: exitCodeOfEnd(exit) ?? 0, stdout, stderr }
}

/** Runs `ironflow ... --json` and returns the parsed output. Fails unless the exit code is 0. */
export const jsonHere = async (args: ReadonlyArray<string>, options: HereOptions = {}): Promise<any> => {
  const { code, stdout, stderr } = await runHere([...args, "--json"], options)
  if (code !== 0) throw new Error(`ironflow ${args.join(" ")} ended with ${code}: ${stderr}`)
  return JSON.parse(stdout)
}
