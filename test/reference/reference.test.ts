/** The docstrings of the public API, and the reference that is made from them. */
import fs from "node:fs"
import path from "node:path"
import { describe, expect, test } from "vitest"
import { referencePages } from "./Pages.ts"
import { declarationsOf, readEntries, undocumented } from "./Surface.ts"

const folder = path.join(import.meta.dirname, "../../docs/reference")

describe("the public API", () => {
  const entries = readEntries()

  test("is found at every entry", () => {
    expect(entries.filter(({ exports, namespaces }) => exports.length + namespaces.length === 0)).toEqual([])
    expect(declarationsOf(entries).length).toBeGreaterThan(500)
  })

  test("has a docstring, and an example where a call takes more than two parameters", () => {
    expect(undocumented(entries)).toEqual([])
  })

  test("has a docstring at the top of each entry and namespace", () => {
    const undocumentedFiles = entries.flatMap(({ doc, file, namespaces }) => [
      ...(doc === undefined ? [file] : []),
      ...namespaces.filter((namespace) => namespace.doc === undefined).map((namespace) => namespace.file)
    ])

    expect(undocumentedFiles).toEqual([])
  })
})

test("docs/reference has the current docstrings: `npm run reference` writes it", () => {
  const pages = referencePages()

  expect(fs.readdirSync(folder).toSorted()).toEqual([...pages.keys()].toSorted())
  for (const [file, text] of pages) expect(fs.readFileSync(path.join(folder, file), "utf8")).toBe(text)
})
