/** The files of a database: by default only the user of the engine may read and write them. */
import { chmodSync, chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { IronflowError } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { freePort, Terminal } from "../Cli/Terminal.ts"

let folder: string
let filename: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ironflow-files-"))
  filename = join(folder, "engine.db")
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const modeOf = (file: string): string => (statSync(file).mode & 0o777).toString(8)
const modes = () => [filename, `${filename}-wal`, `${filename}.lock`].map(modeOf)

const warned = async (): Promise<string> => {
  const lines: Array<string> = []
  const take = (...args: ReadonlyArray<unknown>): void => void lines.push(args.map(String).join(" "))
  const engine = await startEngine({
    filename,
    logger: { debug: () => undefined, info: () => undefined, warn: take, error: take }
  })
  await engine.close()
  return lines.join("\n")
}

describe("a database", () => {
  it("is created for its owner only, whatever the umask", async () => {
    const before = process.umask(0)
    try {
      const engine = await startEngine({ filename, logger: false })
      await engine.client.emit("order.placed", {})
      assert.deepStrictEqual(modes(), ["600", "600", "600"])
      await engine.close()
    } finally {
      process.umask(before)
    }
    assert.strictEqual(await warned(), "")
  })

  it("that exists keeps its mode, and a warning shows a mode that lets others in", async () => {
    assert.strictEqual(await warned(), "")
    chmodSync(filename, 0o644)

    const text = await warned()

    assert.strictEqual(modeOf(filename), "644")
    assert.include(text, `"${filename}" has mode 0644`)
  })

  it.skipIf(process.getuid?.() !== 0)(
    "of another user is not opened, and the error names both users",
    async () => {
      writeFileSync(filename, "")
      chmodSync(filename, 0o640)
      chownSync(filename, 65_534, 65_534)

      const error: unknown = await startEngine({ filename, logger: false }).catch((error: unknown) => error)

      assert.instanceOf(error, IronflowError)
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.include(error.message, `"${filename}" belongs to user 65534 and has mode 0640, but the engine`)
    }
  )

  it("is created with the mode of --file-mode", async () => {
    await using terminal = new Terminal()
    const port = String(await freePort())
    const server = terminal.start(["serve", "--port", port, "--data", filename, "--file-mode", "0640"])
    await server.until("Ironflow listens")

    assert.deepStrictEqual(modes(), ["640", "640", "640"])

    const refused = await terminal.run(["serve", "--data", filename, "--file-mode", "rw"])
    assert.strictEqual(refused.code, 2)
    assert.include(refused.stderr, "--file-mode takes three octal digits")
  })
})
