/** The figures of the README are those of docs/benchmarks.md. */
import { readFileSync } from "node:fs"
import path from "node:path"
import { assert, it } from "vitest"

const root = path.join(import.meta.dirname, "../..")

/** The rows of all tables of a document that compare this engine with the prototype: workload and figures. */
const figuresIn = (file: string): ReadonlyArray<string> =>
  readFileSync(path.join(root, file), "utf8")
    .split("\n\n")
    .filter((part) => /^\|[^\n]*\|\s*Ironflow\s*\|\s*Prototype\s*\|/.test(part))
    .flatMap((table) => table.split("\n").slice(2))
    .map((row) => row.replaceAll(/\s*\|\s*/g, " | ").trim())

it("the figures of the README are those of docs/benchmarks.md", () => {
  const readme = figuresIn("README.md")
  assert.isAbove(readme.length, 3)
  assert.includeMembers([...figuresIn("docs/benchmarks.md")], [...readme])
})
