import { describe, expect, it } from "vitest"
import { sharedGetters } from "../src/SharedGetters.ts"

describe("properties that are made when they are first read", () => {
  let made = 0
  const withDouble = sharedGetters<{ n: number }, { double: number }>({
    double: ({ n }) => {
      made++
      return 2 * n
    }
  })

  it("are made from the data of their object, and not before", () => {
    const two = withDouble({ name: "two" }, { n: 2 })
    const three = withDouble({ name: "three" }, { n: 3 })
    expect(made).toBe(0)
    expect([three.double, two.double, two.name]).toEqual([6, 4, "two"])
    expect(made).toBe(2)
  })

  it("are own properties: they are listed, destructured, copied, and visible through a proxy", () => {
    const two = withDouble({ name: "two" }, { n: 2 })
    expect(Object.keys(two)).toEqual(["name", "double"])
    expect({ ...two }).toStrictEqual({ name: "two", double: 4 })
    expect(Reflect.ownKeys({ ...two })).toEqual(["name", "double"])
    expect(new Proxy(two, {}).double).toBe(4)
    expect(Object.create(two).double).toBe(4)
  })
})
