/** The limits of what one worker or push endpoint registers. */
import { assert, describe, it } from "@effect/vitest"
import { checkRegistrations } from "../../src/Engine/Functions/CheckRegistration.ts"
import type { FunctionRegistration } from "../../src/Protocol/Worker.ts"

const functions = (count: number, description: string): ReadonlyArray<FunctionRegistration> =>
  Array.from(
    { length: count },
    (_, i) => ({ id: `ship-${i}`, triggers: [], codeHash: "1", description }) as never
  )

describe("the functions of a worker", () => {
  it("are measured in bytes, not in characters", () => {
    checkRegistrations(functions(6, "e".repeat(100_000)))

    assert.throws(
      () => checkRegistrations(functions(6, "é".repeat(100_000))),
      /The total size of the function registrations .* is too large: 1200\d+ bytes.*\. Split the functions over several workers or push endpoints$/
    )
  })

  it("are refused when they are too many, with the limit and with what to do", () => {
    assert.throws(
      () => checkRegistrations(functions(1001, "")),
      "The list of functions of one worker or push endpoint is too large: 1001 functions, and the limit is 1000 functions. Split the functions over several workers or push endpoints"
    )
  })
})
