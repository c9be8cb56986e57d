/** Sizes as users write them. */
import { assert, describe, it } from "vitest"
import { formatSize, positiveBytes } from "../src/Size.ts"

describe("a size", () => {
  it.each([
    [1, 1],
    ["1B", 1],
    ["1KB", 1000],
    ["1KiB", 1024],
    ["1.5MiB", 1_572_864],
    ["2GB", 2e9],
    ["1TiB", 2 ** 40],
    ["1.0001KB", 1000]
  ])("%j has %d bytes", (size, bytes) => assert.strictEqual(positiveBytes(size, "the size"), bytes))

  it.each([
    0,
    -1,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    "",
    "1",
    "MiB",
    "1 MiB",
    "1mib",
    "0MiB",
    "-1MB",
    "0.1B",
    "9999999TiB"
  ])("%j is not valid", (size) =>
    assert.throws(
      () => positiveBytes(size, "the size"),
      /^the size must be (a positive number of bytes|an integer from 1 to 9007199254740991, in bytes), got /
    )
  )

  it.each(["10000000", "512", "much", "1 MiB", "0", "9999999999999999"])(
    "with the value %j is refused with suggestions that are valid",
    (size) => {
      let message = ""
      try {
        positiveBytes(size, "the size")
      } catch (error) {
        message = String(error)
      }
      const [, said = ""] = /: (write .*)$/.exec(message) ?? []
      const pasted = [...said.matchAll(/"([^"]+)"/g)].map(([, text = ""]) => text)
      assert.isNotEmpty(pasted)
      for (const text of pasted) assert.isAbove(positiveBytes(text, "the size"), 0)
      assert.notInclude(said, "as a number")
    }
  )

  it.each([
    [0, "0 bytes"],
    [1023, "1023 bytes"],
    [1024, "1.0 KiB"],
    [1_572_864, "1.5 MiB"],
    [2 ** 50, "1024.0 TiB"]
  ])("of %d bytes is shown as %s", (bytes, text) => assert.strictEqual(formatSize(bytes), text))
})
