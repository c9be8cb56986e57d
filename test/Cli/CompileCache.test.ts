/** The compiled code that commands keep beside the package. */
import { execFileSync } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { afterAll, assert, describe, it } from "vitest"
import { builtPackage } from "../Built.ts"

const project = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-compiled-"))
afterAll(() => fs.rmSync(project, { recursive: true, force: true }))

/** An installation of its own: the built package, and a link to its dependencies. */
const install = (name: string): { readonly bin: string; readonly cache: string } => {
  const modules = path.join(project, name, "node_modules")
  fs.mkdirSync(path.join(modules, "@ironflow"), { recursive: true })
  fs.cpSync(builtPackage(), path.join(modules, "@ironflow/node"), { recursive: true })
  for (const dependency of ["effect", "@effect"]) {
    fs.symlinkSync(
      path.join(import.meta.dirname, "../../node_modules", dependency),
      path.join(modules, dependency)
    )
  }
  return { bin: path.join(modules, "@ironflow/node/dist/bin.js"), cache: path.join(modules, ".cache") }
}

// the tests have a cache for all of their processes
const { NODE_COMPILE_CACHE: _, ...env } = process.env
const version = (bin: string): string =>
  execFileSync(process.execPath, [bin, "--version"], { encoding: "utf8", env })

const filesIn = (folder: string): ReadonlyArray<string> =>
  fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .flatMap((entry) => (entry.isFile() ? [entry.name] : []))
    .sort()

describe("The compiled code of a command", () => {
  it("is kept in node_modules/.cache, and the next command uses it", () => {
    const { bin, cache } = install("kept")

    const first = version(bin)
    const kept = filesIn(path.join(cache, "ironflow"))
    const second = version(bin)

    assert.isNotEmpty(kept)
    assert.strictEqual(second, first)
    assert.deepStrictEqual(filesIn(path.join(cache, "ironflow")), kept)
  })

  it("is not kept where the folder cannot be made", () => {
    const { bin, cache } = install("refused")
    // a file in place of the folder: unlike permissions, it stops root too
    fs.writeFileSync(cache, "")

    assert.match(version(bin), /\d+\.\d+\.\d+/)
    assert.strictEqual(fs.readFileSync(cache, "utf8"), "")
  })
})
