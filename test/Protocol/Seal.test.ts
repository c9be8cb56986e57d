/** A seal shows whether a message has arrived unchanged. */
import { assert, describe, it } from "vitest"
import { safeJsonParse } from "../../src/Json.ts"
import { isSealed, MESSAGE_DAMAGED, readSealed, seal } from "../../src/Protocol/Seal.ts"

const read = (text: string, about?: string) => readSealed(text, (text) => safeJsonParse<unknown>(text), about)

const codeOf = (act: () => unknown): unknown => {
  try {
    act()
    return "none"
  } catch (error) {
    return error instanceof Error && "code" in error ? error.code : error
  }
}

describe("a sealed message", () => {
  const message = { session: "ses_1", jobs: ["job_1", "jöb_2"], nested: { sum: 1 } }
  const text = seal(JSON.stringify(message), "7 report ")

  it("is the message, with its checksum", () => {
    const got = read(text, "7 report ")

    assert.deepInclude(got, message)
    assert.isTrue(isSealed(got))
  })

  it("with any one bit flipped is refused, or counts as unsealed", () => {
    const bytes = Buffer.from(text)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3]! ^= 1 << (bit & 7)

      const code = codeOf(() => assert.isFalse(isSealed(read(flipped.toString(), "7 report "))))

      assert.include([MESSAGE_DAMAGED, "none"], code, flipped.toString())
    }
  })

  it("is refused with other surrounding fields than it was sealed with", () => {
    assert.strictEqual(
      codeOf(() => read(text, "8 report ")),
      MESSAGE_DAMAGED
    )
  })
})

it("a message without a seal is read unchanged", () => {
  assert.deepStrictEqual(read('{"sums":1}'), { sums: 1 })
  assert.isFalse(isSealed(read('{"sums":1}')))
  assert.isUndefined(read("{"))
})
