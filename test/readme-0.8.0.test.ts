/**
 * The examples of the documented 0.8.0 surface, as they were written, against what we export today.
 *
 * `test/readme/*.ts.txt` are verbatim; `prelude.d.ts.txt` declares only the names that they leave undeclared.
 */
import fs from "node:fs"
import path from "node:path"
import { afterAll, expect, test } from "vitest"
import { makeExamples } from "./Examples.ts"

const fixtures = path.join(import.meta.dirname, "readme")
const files = fs.readdirSync(fixtures).filter((file) => file.endsWith(".txt"))
const examples = makeExamples(
  Object.fromEntries(
    files.map((file) => [file.slice(0, -".txt".length), fs.readFileSync(path.join(fixtures, file), "utf8")])
  )
)
afterAll(() => examples[Symbol.dispose]())

test("the documented examples of defining functions, steps, sagas, versions and errors compile", async () => {
  expect(files).toHaveLength(19)

  expect(await examples.typeCheck()).toBe("")
}, 120_000)
