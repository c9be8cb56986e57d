/** The exit code of every command for wrong use, an unreachable server and an unknown id. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import os from "node:os"
import path from "node:path"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { commands } from "../../src/Cli/Commands.ts"
import { exitCodes } from "../../src/Cli/ExitCodes.ts"
import { failureOf } from "../../src/Cli/FailureReport.ts"

const folder = mkdtempSync(path.join(os.tmpdir(), "ironflow-exit-"))
const inFolder = (name: string) => path.join(folder, name)
const text = inFolder("text.txt")
/** A pipe: opening it waits for a writer. */
const pipe = inFolder("pipe")
/** A file with a pipe beside it, in the place of its write-ahead log. */
const piped = inFolder("piped.db")
let engine: IronflowEngine
beforeAll(async () => {
  writeFileSync(text, "neither a database, nor a backup, nor an export, nor a program")
  execFileSync("mkfifo", [pipe, `${piped}-wal`])
  writeFileSync(piped, "")
  writeFileSync(inFolder("empty.ts"), "export const price = 1\n")
  for (const method of ["log", "error"] as const) vi.spyOn(console, method).mockImplementation(() => {})
  engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
})
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true, force: true })
  vi.restoreAllMocks()
})

const run = async (args: ReadonlyArray<string>) => {
  const exit = await Effect.runPromiseExit(
    Command.runWith(commands, { version: "0" })(args).pipe(
      Effect.provideService(CliOutput.Presenter, { present: () => Effect.void }),
      Effect.provide(NodeServices.layer)
    )
  )
  if (Exit.isSuccess(exit)) return { code: "", exitCode: 0 }
  return failureOf(exit.cause) ?? { code: Cause.pretty(exit.cause), exitCode: -1 }
}

interface Tree {
  readonly name: string
  readonly subcommands: ReadonlyArray<{ readonly commands: ReadonlyArray<unknown> }>
}
const namesIn = (tree: Tree, before: ReadonlyArray<string> = []): ReadonlyArray<string> => {
  const below = tree.subcommands.flatMap(({ commands }) => commands as ReadonlyArray<Tree>)
  return below.length === 0 ? [before.join(" ")] : below.flatMap((one) => namesIn(one, [...before, one.name]))
}
const names = namesIn(commands)

/** For a server without data: the arguments after the name, and the exit code. */
const rows: {
  readonly [name: string]: ReadonlyArray<readonly [args: ReadonlyArray<string>, exitCode: number]>
} = {
  dev: [
    [[inFolder("no.ts")], 2],
    [[pipe], 2]
  ],
  serve: [
    [["--port", "70000", "--data", inFolder("s.db")], 2],
    [["--keep-runs", "soon", "--data", inFolder("s.db")], 2],
    [["--data", folder, "--port", "0"], 2],
    [["--data", pipe, "--port", "0"], 2],
    [
      [
        "--port",
        "0",
        "--data",
        inFolder("s.db"),
        "--hook",
        "http://127.0.0.1:9/",
        "--hook-secret",
        "sixteen characters"
      ],
      2
    ]
  ],
  migrate: [[[], 2]],
  worker: [
    [[inFolder("empty.ts")], 2],
    [[pipe], 2]
  ],
  emit: [
    [["order.placed", "{}"], 0],
    [["order.placed", "{}", "--wait"], 1],
    [["order.placed", "{"], 2]
  ],
  "events list": [
    [[], 0],
    [["--cursor", "nonsense"], 2],
    [["--since", "yesterday"], 2],
    [["--limit", "0"], 2]
  ],
  "events get": [[["evt_none"], 1]],
  "events why": [[["evt_none"], 1]],
  "events tail": [[["--since", "yesterday"], 2]],
  "runs list": [
    [[], 0],
    [["--where", "event.data.("], 2],
    [["--cursor", "nonsense"], 2],
    [["--function", ""], 2],
    [["--limit", "1001"], 2]
  ],
  "runs count": [
    [["--by", "status"], 0],
    [["--by", ""], 2],
    [["--by", "status", "--where", "event.data.("], 2],
    [[], 2]
  ],
  "runs get": [[["run_none"], 1]],
  "runs why": [[["run_none"], 1]],
  "runs steps": [[["run_none"], 1]],
  "runs logs": [[["run_none"], 1]],
  "runs audit": [[["run_none"], 1]],
  "runs export": [
    [["run_none", "--data", inFolder("none.db")], 1],
    [["run_none", "--data", pipe], 2]
  ],
  "runs patch": [[["run_none:charge:0", "1"], 1]],
  ...Object.fromEntries(
    ["cancel", "pause", "resume", "retry", "fork", "move", "rerun", "delete"].map((action) => [
      `runs ${action}`,
      [
        [[], 2],
        [["--status", "failed"], 2],
        [["--status", "failed", "--yes"], 4],
        [["run_none", "run_nobody", "--yes"], 4],
        [["run_none", "--status", "failed"], 2],
        ...(action === "rerun" || action === "delete" ? [] : ([[["run_none"], 1]] as const))
      ]
    ])
  ),
  "bulk list": [[[], 0]],
  "bulk get": [
    [["bulk_none"], 1],
    [["bulk_none", "--wait"], 1]
  ],
  "bulk cancel": [[["bulk_none"], 1]],
  erase: [
    [[], 2],
    [["--where", ""], 2],
    [["--where", "event.data.("], 2],
    [["--stream", "c-1"], 2],
    [["--stream", "c-1", "--dry-run"], 0],
    [["--stream", "c-1", "--yes"], 4],
    [["--run", "run_none", "--yes"], 4],
    [["--key", "none/c-1", "--dry-run"], 2]
  ],
  "functions list": [[[], 0]],
  "functions pause": [[["none"], 1]],
  "functions resume": [[["none"], 1]],
  "functions run": [
    [["none"], 1],
    [["none", "--data", "{"], 2]
  ],
  "functions history": [[["none"], 1]],
  "functions drain": [
    [[], 0],
    [["none"], 1]
  ],
  "functions delete": [[["none"], 1]],
  "functions register": [
    [["nonsense"], 2],
    [["http://127.0.0.1:9/"], 2]
  ],
  "functions unregister": [[["https://shop.example.com/"], 1]],
  "functions endpoints": [[[], 0]],
  "workers list": [[[], 0]],
  "streams list": [[[], 0]],
  "streams read": [[["o-1"], 0]],
  "streams info": [[["o-1"], 1]],
  "streams append": [
    [["o-1", "item.added", "{}", "--type", "order", "--expected-version", "5"], 1],
    [["o-1", "item.added", "{", "--type", "order"], 2]
  ],
  "projections list": [[[], 0]],
  "projections get": [[["none"], 1]],
  "projections watch": [[["none", "--partition", ""], 2]],
  "projections status": [[["none"], 1]],
  "projections rebuild": [[["none"], 1]],
  "projections pause": [[["none"], 1]],
  "projections resume": [[["none"], 1]],
  "projections dead-letters": [[["none"], 1]],
  "projections retry": [[["none"], 1]],
  "kv buckets": [[[], 0]],
  "kv create-bucket": [[["a b"], 2]],
  "kv delete-bucket": [[["none"], 1]],
  "kv put": [[["none", "k", "1"], 1]],
  "kv get": [[["none", "k"], 1]],
  "kv delete": [[["none", "k"], 1]],
  "kv list": [[["none"], 1]],
  "kv history": [[["none", "k"], 1]],
  "kv watch": [[["a b"], 2]],
  "config set": [[["limits", "{"], 2]],
  "config get": [[["none"], 1]],
  "config patch": [[["none", "[]"], 2]],
  "config list": [[[], 0]],
  // deleting something that does not exist succeeds
  "config delete": [[["none"], 0]],
  "config watch": [[["none", "--from", "-1"], 2]],
  topics: [[[], 0]],
  publish: [
    [["news", "{}"], 0],
    [["news", "{"], 2]
  ],
  subscribe: [[["events:a..b"], 2]],
  "groups list": [[[], 0]],
  "groups get": [[["none"], 1]],
  "groups pause": [[["none"], 1]],
  "groups resume": [[["none"], 1]],
  "groups dead-letters": [[["none"], 1]],
  "groups retry": [[["none"], 1]],
  "groups delete": [[["none"], 1]],
  // the value comes from standard input
  "secrets set": [],
  "secrets list": [[[], 0]],
  "secrets delete": [[["NONE"], 1]],
  "apikeys create": [
    [["ci", "--data", folder], 2],
    [["ci", "--data", pipe], 2]
  ],
  "apikeys list": [[[], 0]],
  "apikeys rotate": [[["key_none"], 1]],
  "apikeys delete": [[["key_none"], 1]],
  "orgs create": [[[""], 2]],
  "orgs list": [[[], 0]],
  "orgs rename": [[["org_none", "Acme"], 1]],
  "orgs delete": [[["org_none"], 1]],
  "roles create": [[[""], 2]],
  "roles list": [[[], 0]],
  "roles rename": [[["role_none", "Deployer"], 1]],
  "roles delete": [[["role_none"], 1]],
  "roles assign": [[["role_none", "policy_none"], 1]],
  "roles unassign": [[["role_none", "policy_none"], 1]],
  "policies create": [[["orders", "--actions", "frob:it", "--resources", "*"], 2]],
  "policies list": [[[], 0]],
  "policies update": [[["policy_none", "--actions", "run:read"], 1]],
  "policies delete": [[["policy_none"], 1]],
  backup: [
    [[inFolder("b.db"), "--data", inFolder("none.db")], 2],
    [[folder], 2],
    [[pipe], 2],
    [[inFolder("b.db"), "--data", pipe], 2]
  ],
  restore: [
    [[inFolder("none.db"), "--data", inFolder("r.db")], 2],
    [[text, "--data", inFolder("r.db")], 2],
    [[folder, "--data", inFolder("r.db")], 2],
    [[pipe, "--data", inFolder("r.db")], 2],
    [[text, "--data", folder], 2],
    [[text, "--data", pipe], 2]
  ],
  export: [
    [[inFolder("e.jsonl"), "--data", inFolder("none.db")], 2],
    [[inFolder("e.jsonl"), "--data", folder], 2],
    [[inFolder("e.jsonl"), "--data", pipe], 2],
    [[pipe, "--data", text], 2]
  ],
  import: [
    [[text, "--data", inFolder("i.db")], 2],
    [[folder, "--data", inFolder("i.db")], 2],
    [[pipe, "--data", inFolder("i.db")], 2],
    [[text, "--data", pipe], 2]
  ],
  doctor: [
    [["--data", folder], 2],
    [["--data", pipe], 2],
    [["--data", piped], 2],
    [["--data", text], 1],
    [["--check"], 2]
  ],
  verify: [
    [[inFolder("no.ts"), "--data", inFolder("none.db")], 2],
    [[pipe], 2]
  ]
}

it("every command is listed here", () => {
  assert.deepStrictEqual(Object.keys(rows).toSorted(), [...names].toSorted())
})

it("wrong use exits with 2", { timeout: 60_000 }, async () => {
  const wrong: Array<string> = []
  for (const name of names) {
    const { code, exitCode } = await run([...name.split(" "), "--no-such-flag"])
    if (exitCode !== 2 || code !== "USAGE") wrong.push(`${name}: ${exitCode} ${code}`)
  }
  assert.deepStrictEqual(wrong, [])
})

it(
  "success exits with 0, failure and refusal with 1, wrong use with 2, and no matching run with 4",
  {
    timeout: 120_000
  },
  async () => {
    const wrong: Array<string> = []
    for (const [name, cases] of Object.entries(rows)) {
      for (const [args, expected] of cases) {
        const { code, exitCode } = await run([...name.split(" "), ...args, "--server-url", engine.url ?? ""])
        if (exitCode !== expected)
          wrong.push(`${name} ${args.join(" ")}: ${exitCode} ${code}, and not ${expected}`)
      }
    }
    assert.deepStrictEqual(wrong, [])
  }
)

it("an unreachable server is a failure of every command that calls one", { timeout: 120_000 }, async () => {
  const wrong: Array<string> = []
  for (const [name, cases] of Object.entries(rows)) {
    const [args, expected] = cases.find(([, expected]) => expected !== 2) ?? []
    if (args === undefined || expected === undefined || args.includes("--data")) continue
    const { code, exitCode } = await run([...name.split(" "), ...args, "--server-url", "http://127.0.0.1:9"])
    if (exitCode !== 1 || code !== "CONNECTION_LOST")
      wrong.push(`${name} ${args.join(" ")}: ${exitCode} ${code}`)
  }
  assert.deepStrictEqual(wrong, [])
})

it("the table of docs/cli.md has the codes", () => {
  const docs = readFileSync(path.join(import.meta.dirname, "../../docs/cli.md"), "utf8")
  const said: { [code: string]: number } = {}
  for (const [, exitCode, codes = ""] of docs.matchAll(/^\| ([0-4]) +\|.*\|([^|]*)\|$/gm))
    for (const [, code = ""] of codes.matchAll(/`([A-Z_]+)`/g)) said[code] = Number(exitCode)
  assert.deepStrictEqual(said, exitCodes)
})
