import { describe, expect, it } from "vitest"
import { ShortLivedMap, ShortLivedSet } from "../src/ShortLivedMap.ts"

describe("an entry of a short-lived collection", () => {
  it("is there until it is deleted, in the order of insertion, however many entries there were", () => {
    const map = new ShortLivedMap<number, string>()
    const set = new ShortLivedSet<number>()
    for (let i = 0; i < 1000; i++) {
      map.set(i, `value ${i}`)
      set.add(i)
      if (i >= 10) {
        expect(map.delete(i - 10)).toBe(true)
        expect(set.delete(i - 10)).toBe(true)
      }
    }
    const left = [990, 991, 992, 993, 994, 995, 996, 997, 998, 999]
    expect([...map]).toEqual(left.map((i) => [i, `value ${i}`]))
    expect([...map.keys()]).toEqual(left)
    expect([...set]).toEqual(left)
    expect(map.get(995)).toBe("value 995")
    expect(map.delete(5)).toBe(false)
    expect([map.size, map.has(5), set.has(995)]).toEqual([10, false, true])
  })

  it("is gone after a clear, and can be added again", () => {
    const set = new ShortLivedSet<string>()
    set.clear()
    set.add("a")
    set.clear()
    expect([...set]).toEqual([])
    set.add("b")
    expect([...set]).toEqual(["b"])
  })

  it("can be deleted during an iteration", () => {
    const map = new ShortLivedMap<number, number>()
    for (let i = 0; i < 100; i++) map.set(i, i)
    const seen: Array<number> = []
    for (const [key] of map) {
      seen.push(key)
      map.delete(key)
    }
    expect(seen).toHaveLength(100)
    expect(map.size).toBe(0)
  })
})
