/**
 * A value that is read from storage has the type `Stored` of the original. For each value below, the compiler checks the
 * expected value against `Stored`, and the test checks it against storage.
 */
import { assert, describe, test } from "vitest"
import { ValidationError } from "../src/Errors.ts"
import { decodeResult, encodeResult } from "../src/ResultEncoding.ts"
import type { StorableResult, Stored } from "../src/StoredType.ts"

class Money {
  readonly cents: number
  constructor(cents: number) {
    this.cents = cents
  }
  format(): string {
    return `${this.cents / 100} EUR`
  }
}
class Celsius {
  readonly #degrees: number
  constructor(degrees: number) {
    this.#degrees = degrees
  }
  toJSON(): { degrees: number; since: Date } {
    return { degrees: this.#degrees, since: new Date(0) }
  }
}
class CardError extends Error {
  readonly declinedAt = new Date(0)
}

const epoch = "1970-01-01T00:00:00.000Z"
const roundTrip = <T>(value: T): unknown => decodeResult(encodeResult(value, "Result"))
const optional: { a?: Date; b: string | undefined } = { b: undefined }
const sparse: Array<number | undefined> = [1, undefined]
const mixed: ReadonlyArray<Date | string | null> = [new Date(0), "text", null]
const record: Record<string, Date> = { first: new Date(0) }

/** A value, and the value that is read back. */
const comesBack = <T>(name: string, value: T, as: Stored<T>) => ({ name, value, as })

describe("a value that is read from storage has the type Stored", () => {
  test.for([
    comesBack("a date", new Date(0), epoch),
    comesBack("a date in an object", { at: new Date(0), n: 1 }, { at: epoch, n: 1 }),
    comesBack("a record of dates", record, { first: epoch }),
    comesBack("a date in arrays", [[new Date(0)]], [[epoch]]),
    comesBack("a tuple", [1, new Date(0)] as const, [1, epoch]),
    comesBack("undefined in an array", sparse, [1, null]),
    comesBack("an array of a union", mixed, [epoch, "text", null]),
    comesBack("optional members that are absent", optional, {} as { b: undefined }),
    comesBack("nothing", undefined, undefined),
    comesBack("null", null, null),
    comesBack("an instance with methods", new Money(5), { cents: 5 }),
    comesBack("toJSON, whose result is stored in turn", new Celsius(5), { degrees: 5, since: epoch }),
    comesBack("a URL", { url: new URL("https://example.com/a") }, { url: "https://example.com/a" }),
    comesBack("a buffer", Buffer.from("a"), { type: "Buffer", data: [97] }),
    comesBack("an array of bytes", new Uint8Array([1, 2]), { "0": 1, "1": 2 }),
    comesBack(
      "plain data",
      { id: "o-1", lines: [{ price: 5, tags: ["new"] }] },
      {
        id: "o-1",
        lines: [{ price: 5, tags: ["new"] }]
      }
    )
  ] as ReadonlyArray<{ name: string; value: unknown; as: unknown }>)("$name", ({ as, value }) => {
    assert.deepEqual(roundTrip(value), as)
  })

  test("an error, which is an error again with its fields in their stored form", () => {
    const declined = new CardError("declined")

    const back = roundTrip(declined) as Stored<CardError>

    const declinedAt: string = back.declinedAt
    assert.instanceOf(back, Error)
    assert.strictEqual(back.message, "declined")
    assert.strictEqual(declinedAt, epoch)
  })
})

describe("a value that the compiler refuses is refused by storage too", () => {
  /** The call compiles only if the compiler refuses the value. */
  const isRefused = <T>(
    name: string,
    value: T,
    _: unknown extends StorableResult<T> ? never : "refused"
  ) => ({
    name,
    value
  })

  test.for([
    isRefused("a bigint", 10n, "refused"),
    isRefused("a symbol", Symbol("s"), "refused"),
    isRefused("a function", () => 1, "refused"),
    isRefused("a Map", new Map([["a", 1]]), "refused"),
    isRefused("a Set", new Set(["a"]), "refused"),
    isRefused("a promise", { later: Promise.resolve(1) }, "refused"),
    isRefused("a RegExp", /a/, "refused"),
    isRefused("an ArrayBuffer", new ArrayBuffer(1), "refused"),
    isRefused("a bigint in an object", { total: 10n }, "refused"),
    isRefused("a Set in an array", [[new Set(["a"])]], "refused"),
    isRefused("a function in an array", [() => 1], "refused")
  ] as ReadonlyArray<{ name: string; value: unknown }>)("$name", ({ value }) => {
    assert.throws(() => roundTrip(value), ValidationError, /cannot be stored/)
  })
})
