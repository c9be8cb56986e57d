/** Every reason of `explain` has a section that says what to do about it. */
import fs from "node:fs"
import path from "node:path"
import { assert, describe, it } from "vitest"
import { pageOfReason, reasonCodes } from "../src/Protocol/ExplainReasons.ts"

const repository = path.join(import.meta.dirname, "..")
const page = fs.readFileSync(path.join(repository, "docs/reasons.md"), "utf8")
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => [section.slice(0, section.indexOf("\n")), section])
)

describe("docs/reasons.md", () => {
  it("has a section for each reason, and no other", () => {
    assert.deepStrictEqual([...sections.keys()].toSorted(), [...reasonCodes].toSorted())
  })

  it.each([...reasonCodes])("says what to do about %s", (code) => {
    assert.match(sections.get(code) ?? "", /^\*\*To do:\*\* ./m)
    assert.strictEqual(pageOfReason(code), `docs/reasons.md#${code.toLowerCase()}`)
  })

  it("has no section for a reason that this version does not know", () => {
    assert.isUndefined(pageOfReason("SOMETHING_NEW"))
  })

  it("is in the package", () => {
    const { files } = JSON.parse(fs.readFileSync(path.join(repository, "package.json"), "utf8"))
    assert.includeMembers(files, ["docs", "deploy"])
  })
})
