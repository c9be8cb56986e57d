/** The error on a runtime on which an engine cannot listen. The Node.js of the test pretends to be such a runtime. */
import { spawnSync } from "node:child_process"
import path from "node:path"
import { startEngine } from "@ironflow/node/engine"
import { afterEach, assert, describe, it } from "vitest"
import { IronflowError } from "../src/Errors.ts"

const pretend = `Object.defineProperty(process.versions, "bun", { value: "1.4.0", configurable: true })`
const command = path.join(import.meta.dirname, "../src/bin.ts")

/** Runs the command after `before` has been evaluated. */
const ironflow = (before: string, ...args: ReadonlyArray<string>) =>
  spawnSync(
    process.execPath,
    [
      "--conditions=@ironflow/source",
      `--import=data:text/javascript,${encodeURIComponent(before)}`,
      command,
      ...args
    ],
    { encoding: "utf8", timeout: 30_000 }
  )

describe("on Bun", () => {
  afterEach(() => {
    Reflect.deleteProperty(process.versions, "bun")
  })

  it.each([["worker", "./wf.ts"], ["dev", "./wf.ts"], ["serve"]])(
    "the command says that it needs Node.js, and ends with exit code 1: %s",
    (...args) => {
      const { status, stderr, stdout } = ironflow(
        // as in Bun, the module has no such function
        `import Module, { syncBuiltinESMExports } from "node:module"; delete Module.registerHooks; syncBuiltinESMExports(); ${pretend}`,
        ...args
      )

      assert.strictEqual(status, 1, stderr)
      assert.strictEqual(stdout, "")
      assert.match(stderr, /This is Bun 1\.4\.0, and the ironflow command needs Node\.js/)
      assert.match(stderr, /`bunx ironflow` without `--bun`/)
    }
  )

  it("an engine that listens is refused, and an embedded engine runs", async () => {
    Object.defineProperty(process.versions, "bun", { value: "1.4.0", configurable: true })

    const embedded = await startEngine({ filename: ":memory:", logger: false })
    await embedded.close()
    const error = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } }).then(
      async (engine) => {
        await engine.close()
        return assert.fail("it listens")
      },
      (error: unknown) => error
    )

    assert.instanceOf(error, IronflowError)
    assert.strictEqual(error.code, "NODE_NEEDED")
    assert.match(error.message, /an engine that listens needs Node\.js/)
  })
})
