/** The help of the command, and its errors for invalid use. */
import fs from "node:fs"
import path from "node:path"
import { afterAll, assert, describe, it } from "vitest"
import { runHere } from "./Here.ts"
import { type Ended, freePort, Terminal } from "./Terminal.ts"

const terminal = new Terminal({
  "good.ts": `import { createFunction } from "@ironflow/node"\nexport const a = createFunction({ id: "a", triggers: [] }, () => 1)\n`,
  "twice.ts": `import { createFunction } from "@ironflow/node"\nexport const a = createFunction({ id: "a", triggers: [] }, () => 1)\nexport const b = createFunction({ id: "a", triggers: [] }, () => 2)\n`,
  "empty.ts": "export const price: number = 1\n",
  "nothing.ts": "",
  "enum.ts": "export enum Size { Small }\n",
  "decorator.ts": "const log = (x: any, _: any) => x\n@log\nexport class A {}\n",
  "syntax.ts": "export const a = (\n  1 2\n)\n",
  "throws.ts": `export const a = 1\nthrow new Error("no database")\n`,
  "package.ts": `import "no-such-package"\nexport const a = 1\n`,
  "import.ts": `import { b } from "./other"\nexport const a = b\n`
})
afterAll(() => terminal[Symbol.asyncDispose]())

describe("help", () => {
  it("lists the commands without arguments", async () => {
    const { code, stdout } = await terminal.run([])

    assert.strictEqual(code, 0)
    for (const name of [
      "dev",
      "serve",
      "worker",
      "emit",
      "runs",
      "functions",
      "workers",
      "streams",
      "secrets"
    ]) {
      assert.match(stdout, new RegExp(`^  ${name}[ ,]`, "m"))
    }
  })

  it.for([
    ["dev", "--port", "--data"],
    ["serve", "--host", "--insecure", "9123 by default", "ironflow.db by default"],
    ["worker", "--concurrency", "--label"],
    ["emit", "--idempotency-key", "--wait"],
    ["runs list", "--status", "--cursor", "20 by default"],
    ["streams append", "--expected-version", "STREAM_EXISTS"],
    ["secrets set", "standard input", "--json"]
  ] as const)("of %s names its arguments and flags", async ([name, ...words]) => {
    const { code, stdout } = await runHere([...name.split(" "), "--help"])

    assert.strictEqual(code, 0)
    for (const word of words) assert.include(stdout, word)
    assert.notInclude(stdout, "supervised")
  })

  it("contains completions for the shell", async () => {
    const { code, stdout } = await terminal.run(["--completions", "bash"])

    assert.strictEqual(code, 0)
    assert.include(stdout, "secrets")
  })
})

const assertInvalidUse = ({ code, stdout, stderr }: Ended, reason: string) => {
  assert.strictEqual(code, 2, stderr)
  assert.strictEqual(stdout, "")
  assert.include(stderr, reason)
  assert.match(stderr, /^Error: [^\n]+\n$/)
}

describe("invalid use ends with exit code 2 and one line", () => {
  it.concurrent.for([
    [["frobnicate"], 'Unknown subcommand "frobnicate"'],
    [["runs", "lists"], '"ironflow runs": did you mean list?'],
    [["runs", "list", "--limit", "many"], '"many". Expected a number.'],
    [["emit", "order.placed", "--frob"], "Unrecognized flag: --frob"],
    [["emit"], "Missing required argument: event"],
    [["streams", "append", "o-1", "item.added"], "--type"],
    [
      ["streams", "append", "o-1", "item.added", "--type", "order", "--expected-version", "-5"],
      "--expected-version must be"
    ],
    [["emit", "order.placed", "{orderId:1}"], "The data is not JSON"],
    [["emit", "order.placed", "--wait", "--timeout", "soon"], "--timeout"],
    [["emit", "order.placed", "--timeout", "30s"], "--timeout needs --wait"],
    [["runs", "list", "--status", "asleep"], "asleep"],
    ...[
      ["functions", "pause", "a", "--reason", ""],
      ["functions", "run", "a", "--idempotency-key="],
      ["runs", "cancel", "run_1", "--reason", " "],
      ["events", "list", "--cursor", ""],
      ["kv", "create-bucket", "b", "--description", ""],
      ["serve", "--allowed-host", "shop.example.com", "--allowed-host", ""],
      ["doctor", "--data", ""]
    ].map(
      (args) =>
        [
          args,
          `${args.findLast((arg) => arg.startsWith("--"))!.replace("=", "")} is empty: give it a value, or leave it out`
        ] as const
    ),
    [["runs", "list", "--api-key", ""], "--api-key"],
    [["runs", "list", "--server-url", "ftp://x"], '--server-url "ftp://x" is not valid']
  ] as const)("ironflow %j", async ([args, reason]) => {
    assertInvalidUse(await runHere(args), reason)
  })

  // These need files in the working folder, or show each kind of error once with a process. `verify` reads a file like `worker`, in
  // a third of the time.
  it.concurrent.for([
    [["frobnicate"], 'Unknown subcommand "frobnicate"'],
    [["emit", "order.placed", "{orderId:1}"], "The data is not JSON"],
    [["emit", "order.placed", "-"], "it is empty"],
    [["worker", "good.ts", "--label", "pool"], '"pool" is not a label'],
    [["worker", "good.ts", "--concurrency", "0"], "--concurrency must be an integer from 1 to 100000"],
    [["worker", "nowhere.ts"], "There is no file nowhere.ts"],
    [["dev", "nowhere.ts"], "There is no file nowhere.ts"],
    [["worker", "node_modules"], "node_modules is a folder: name the file"],
    [["dev", "node_modules"], "node_modules is a folder: name the file"],
    [
      ["worker", "empty.ts"],
      "empty.ts exports no functions and no projections (only price). It must export what createFunction()"
    ],
    [["verify", "nothing.ts"], "nothing.ts exports no functions and no projections. It must export"],
    [["worker", "twice.ts"], 'two functions have the id "a"'],
    [
      ["verify", "enum.ts"],
      "TypeScript enum is not supported in strip-only mode at enum.ts:1. Node only removes types"
    ],
    [["verify", "decorator.ts"], "decorator.ts uses decorators"],
    [["verify", "syntax.ts"], "at syntax.ts:2"],
    [["verify", "throws.ts"], "Error: no database at throws.ts:2"],
    [["verify", "package.ts"], "Install it with npm"],
    [["verify", "import.ts"], "Import your own files with their ending: ./orders.ts"],
    [["serve", "--host", "0.0.0.0", "--data", "host.db"], "add --insecure"],
    [["serve", "--database-pool-size", "5"], "--database-pool-size is about connections to Postgres"],
    [
      ["serve", "--database-url", "postgres://localhost:1/orders", "--database-pool-size", "1"],
      "--database-pool-size of a command) is 1: it must be an integer, at least 2"
    ],
    [["serve", "--port", "99999", "--data", "port.db"], "from 0 to 65535"]
  ] as const)("ironflow %j, as a process", async ([args, reason]) => {
    assertInvalidUse(await terminal.run([...args]), reason)
  })
})

describe("a failure ends with exit code 1 and one line", () => {
  it("when there is no server, without waiting", async () => {
    const url = `http://127.0.0.1:${await freePort()}`

    const { code, stderr } = await terminal.run(["runs", "list", "--server-url", url])

    assert.strictEqual(code, 1)
    assert.strictEqual(
      stderr,
      `Error: The command failed: the Ironflow server at ${url} refuses connections. Start it there, or set --server-url or IRONFLOW_SERVER_URL to where it is.\n`
    )
  })

  it("is JSON with --json", async () => {
    const failed = await terminal.run(["runs", "list", "--json"], {
      env: { IRONFLOW_SERVER_URL: `http://127.0.0.1:${await freePort()}` }
    })
    const misused = await terminal.run(["runs", "list", "--json", "--frob"])

    assert.strictEqual(failed.code, 1)
    assert.strictEqual(JSON.parse(failed.stderr).error.code, "CONNECTION_LOST")
    assert.strictEqual(misused.code, 2)
    assert.strictEqual(JSON.parse(misused.stderr).error.code, "USAGE")
  })

  it("has the stack at the debug level", async () => {
    const { code, stderr } = await terminal.run(["worker", "throws.ts"], {
      env: { IRONFLOW_LOG_LEVEL: "debug" }
    })

    assert.strictEqual(code, 2)
    assert.include(stderr, "    at ")
  })
})

it("no flag accepts a blank text, except the condition of a policy, which it removes", () => {
  const folder = path.join(import.meta.dirname, "../../src/Cli")
  const plain = fs
    .readdirSync(folder)
    .flatMap((file) =>
      [...fs.readFileSync(path.join(folder, file), "utf8").matchAll(/Flag\.String\(("[^"]*")?/g)].map(
        ([, name]) => `${file} ${name}`
      )
    )

  assert.deepStrictEqual(plain, ['Policies.ts "condition"', "TextFlag.ts undefined"])
})
