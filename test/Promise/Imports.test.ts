import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "vitest"

const src = fileURLToPath(new URL("../../src/", import.meta.url))

/** The modules that a fresh process loads when it imports an entry point. */
const loadedBy = (entry: string, args: ReadonlyArray<string> = []): ReadonlyArray<string> => {
  const program = `
    import { registerHooks } from "node:module"
    const loaded = []
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
    process.on("exit", () => console.log("\\n" + JSON.stringify(loaded)))
    await import(${JSON.stringify(src + entry)})`
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", program, "--", ...args], {
    encoding: "utf8"
  })
  return JSON.parse(printed.trim().split("\n").at(-1) ?? "")
}

const matching = (loaded: ReadonlyArray<string>, pattern: RegExp) => loaded.filter((url) => pattern.test(url))

describe("importing an entry point", () => {
  it.each(["index.ts", "worker.ts", "core.ts"])(
    "%s loads neither the engine nor node:sqlite nor a barrel",
    (entry) => {
      const loaded = loadedBy(entry)

      assert.isNotEmpty(matching(loaded, /src\/Errors\.ts$/))
      assert.deepStrictEqual(matching(loaded, /src\/Engine\/|node:sqlite|effect\/dist\/index\.js$/), [])
    }
  )

  it("index.ts loads the modules for executing functions only when a worker starts, and those for HTTP only with the first call", () => {
    const loaded = loadedBy("index.ts")
    assert.deepStrictEqual(matching(loaded, /src\/Execution\/|effect\/dist\/Schema\.js$/), [])
    assert.deepStrictEqual(matching(loaded, /effect\/dist\/http\/|src\/Client\/Http\.ts$/), [])
  })

  it("worker-streaming.ts loads the packages of ConnectRPC only when a worker starts", () => {
    const loaded = loadedBy("worker-streaming.ts")
    assert.isNotEmpty(matching(loaded, /src\/Promise\/StreamingWorker\.ts$/))
    assert.deepStrictEqual(matching(loaded, /@bufbuild|@connectrpc|src\/Engine\/|src\/Execution\//), [])
  })

  it("bin.ts loads no module that an older Node.js lacks, so that it can report that it needs a newer one", () => {
    const loaded = loadedBy("bin.ts", ["--version"])
    assert.isNotEmpty(matching(loaded, /src\/Cli\/Verify\.ts$/))
    assert.deepStrictEqual(matching(loaded, /UserModule\.ts$|node:sqlite/), [])
  })

  it("bin.ts loads what runs handlers and engines only for the commands that do", () => {
    const loaded = loadedBy("bin.ts", ["--version"])
    assert.isNotEmpty(matching(loaded, /src\/Cli\/Serve\.ts$/))
    assert.deepStrictEqual(
      matching(loaded, /src\/Engine\/(Runs|Turns|Events|Schedules)\/|src\/Execution\/Turn\.ts$|cel-js/),
      []
    )
  })

  it("engine.ts loads the engine", () => {
    assert.isNotEmpty(matching(loadedBy("engine.ts"), /src\/Engine\/Engine\.ts$/))
  })
})
