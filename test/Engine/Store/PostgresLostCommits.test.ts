/** At the start of a transaction a node checks that Postgres still has every commit. */
import { assert, describe, it } from "vitest"
import { checkCommits, type RememberedCommits } from "../../../src/Engine/Store/Postgres/LostCommits.ts"

const numbersOf = () => ({
  environments: 1,
  events: 10,
  runs: 20,
  seq: 30,
  functions: 3,
  leases: 4,
  idTime: 5
})

const checkWith = (
  known: RememberedCommits,
  now: { timeline: string; sequence: number; stored?: string | null; batch?: number | null }
) => {
  const numbers = numbersOf()
  const puts: Array<ReadonlyArray<string | number>> = []
  const found = checkCommits(
    known,
    {
      timeline: now.timeline,
      sequence: now.sequence,
      stored: { timeline: now.stored ?? null, batch: now.batch ?? null }
    },
    numbers,
    (_, values) => void puts.push(values)
  )
  return { ...found, numbers, puts }
}

describe("a node that begins its first transaction", () => {
  const known: RememberedCommits = { timeline: undefined, sequence: -1, batch: 0 }

  it("stores the timeline that it finds", () => {
    const { hasLostCommits, isOther, numbers, puts, sequence } = checkWith(known, {
      timeline: "1",
      sequence: 7,
      batch: 0
    })
    assert.deepStrictEqual(
      { hasLostCommits, isOther, sequence },
      { hasLostCommits: false, isOther: false, sequence: 7 }
    )
    assert.deepStrictEqual(numbers, numbersOf())
    assert.deepStrictEqual(puts, [["1"]])
  })

  it("writes nothing when the timeline is known", () => {
    assert.deepStrictEqual(checkWith(known, { timeline: "1", sequence: 7, stored: "1" }).puts, [])
  })

  it("skips the numbers that another timeline may have used", () => {
    const { isOther, numbers, puts, sequence } = checkWith(known, {
      timeline: "2",
      sequence: 7,
      stored: "1"
    })
    assert.isFalse(isOther, "the node knows no commit yet")
    assert.isAbove(sequence, 900_000)
    assert.isAbove(numbers.events, 900_000)
    assert.isAbove(numbers.runs, 900_000)
    assert.isAbove(numbers.seq, 900_000)
    assert.deepStrictEqual(puts, [[sequence], ["2"]])
  })
})

describe("a node that has committed before", () => {
  const known: RememberedCommits = { timeline: "1", sequence: 100, batch: 90 }

  it("recognizes a promoted server that has all commits", () => {
    const found = checkWith(known, { timeline: "2", sequence: 101, stored: "1", batch: 90 })
    assert.isTrue(found.isOther)
    assert.isFalse(found.hasLostCommits)
    assert.isAbove(found.sequence, 900_000)
  })

  it("recognizes a promoted server that lacks the last commits", () => {
    assert.isTrue(checkWith(known, { timeline: "2", sequence: 95, stored: "1", batch: 80 }).hasLostCommits)
    assert.isTrue(
      checkWith(known, { timeline: "2", sequence: 2_000_000, stored: "2", batch: 80 }).hasLostCommits
    )
    assert.isTrue(
      checkWith(known, { timeline: "2", sequence: 95, stored: "1" }).hasLostCommits,
      "its row is gone"
    )
  })

  it("skips no numbers when another node has skipped them already", () => {
    const found = checkWith(known, { timeline: "2", sequence: 1_000_105, stored: "2", batch: 90 })
    assert.isTrue(found.isOther)
    assert.strictEqual(found.sequence, 1_000_105)
    assert.deepStrictEqual(found.puts, [])
  })

  it("recognizes a server that was restored on the same timeline", () => {
    const found = checkWith(known, { timeline: "1", sequence: 60, stored: "1", batch: 50 })
    assert.isTrue(found.isOther)
    assert.isTrue(found.hasLostCommits)
    assert.isAbove(found.sequence, 900_000)
  })
})
