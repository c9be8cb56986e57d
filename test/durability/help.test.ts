import { spawnSync } from "node:child_process"
import path from "node:path"
import { assert, describe, it } from "vitest"

const repository = path.join(import.meta.dirname, "../..")

describe("npm run storm -- --help", () => {
  it("prints its options, and runs nothing", () => {
    const { status, stderr, stdout } = spawnSync(
      process.execPath,
      [
        "--conditions=@ironflow/source",
        "--disable-warning=ExperimentalWarning",
        path.join(repository, "test/durability/matrix/main.ts"),
        "--help"
      ],
      { encoding: "utf8" }
    )
    assert.deepStrictEqual([status, stderr], [0, ""])
    assert.include(stdout, "--settle")
    assert.include(stdout, "`npm run storm")
  })
})
