/** What a codec generates: readers of requests and answers, encoders, and JSON Schemas. */
import { assert, describe, it } from "vitest"
import { ValidationError } from "../../src/Errors.ts"
import { listBulk } from "../../src/Protocol/Bulk.ts"
import {
  onlyLegacyMayLack,
  anyOf,
  merge,
  digits,
  camelOrSnake,
  exact,
  fields,
  nonEmptyText,
  flag,
  integer,
  json,
  lenientList,
  list,
  nonZero,
  nullable,
  number,
  omittedWhen,
  oneOf,
  optional,
  orElse,
  plainWord,
  reader,
  text,
  time,
  withLegacyNames,
  withWireName,
  word
} from "../../src/Protocol/Codec.ts"
import { decoder, encoder, schemaOf, memberReader } from "../../src/Protocol/ServerCodec.ts"

interface Order {
  readonly id: string
  readonly placedAt: string
  readonly total?: number
  readonly state?: "open" | "paid"
  readonly items?: Array<{ readonly name: string; readonly count: number }>
}
const order = fields<Order>({
  id: text,
  placedAt: withWireName("placed_at", text),
  total: optional(number),
  state: optional(oneOf("open", "paid")),
  items: optional(list(fields<{ name: string; count: number }>({ name: text, count: number })))
})

describe("a request", () => {
  const read = decoder(order, "Order")

  it.each([
    ["names in snake case", { id: "o-1", placed_at: "now" }, { id: "o-1", placedAt: "now" }],
    ["names in camel case", { id: "o-1", placedAt: "now" }, { id: "o-1", placedAt: "now" }],
    [
      "null for an absent field",
      { id: "o-1", placed_at: "now", total: null },
      { id: "o-1", placedAt: "now" }
    ],
    [
      "numbers as strings and unknown fields",
      { id: "o-1", placed_at: "now", total: "12", more: 1 },
      { id: "o-1", placedAt: "now", total: 12 }
    ]
  ])("is read with %s", (_, request, expected) => {
    assert.deepStrictEqual(read(request), expected)
  })

  it.each([
    [null, "Expected object, got null"],
    [{}, "id: Required, but missing"],
    [{ id: null }, "id: Required, but null"],
    [{ id: 5 }, "id: Expected string, got number"],
    [{ id: "o-1", placedAt: 5 }, "placed_at: Expected string, got number"],
    [{ id: "o-1", placedAt: "now", total: "many" }, 'total: Expected number, got "many"'],
    [{ id: "o-1", placedAt: "now", state: "lost" }, 'state: Expected "open" | "paid", got "lost"'],
    [{ id: "o-1", placedAt: "now", items: {} }, "items: Expected array, got object"],
    [
      { id: "o-1", placedAt: "now", items: [{ name: "a", count: 1 }, { name: "b" }] },
      "items.1.count: Required, but missing"
    ]
  ])("%j is refused with the path of its first mistake", (request, problem) => {
    try {
      read(request)
      assert.fail("it was read")
    } catch (error) {
      assert.instanceOf(error, ValidationError)
      assert.strictEqual(error.message, `Order: ${problem}`)
      assert.deepStrictEqual(error.validationErrors, [problem])
    }
  })

  it("with too many items is refused before they are read", () => {
    assert.throws(
      () => read({ id: "o-1", placedAt: "now", items: Array(10_001).fill(0) }),
      /The list `items`/
    )
  })
})

describe("a request that a service checks", () => {
  const take = memberReader(order, (got) => `An order is an object, got ${got}`)

  it("keeps its fields, and drops those that are null", () => {
    assert.deepStrictEqual(take({ id: null, placedAt: 5, total: null }), { id: null, placedAt: 5 })
  })

  it("is refused when it contradicts itself, or is not an object", () => {
    assert.throws(
      () => take({ placed_at: "a", placedAt: "b" }),
      "`placedAt` and `placed_at` are one field under two names, with different values: give one"
    )
    assert.throws(() => take(null), "An order is an object, got null")
  })
})

describe("an answer", () => {
  const codec = fields<{ id: string; name: string; isOpen: boolean; by?: string; tags?: Array<string> }>({
    id: text,
    name: orElse(text, ""),
    isOpen: orElse(flag, false),
    by: onlyLegacyMayLack(nonEmptyText),
    tags: optional(lenientList(text))
  })
  const read = reader(codec)

  it.each([
    [{ id: "a", name: "b", isOpen: true, by: "c", tags: ["d"] }, undefined],
    [{ id: "a" }, { id: "a", name: "", isOpen: false }],
    [
      { id: "a", name: 5, isOpen: "yes", by: "", tags: ["d", 5] },
      { id: "a", name: "", isOpen: false, tags: ["d"] }
    ]
  ])("%j is read as far as it is valid", (answer, expected = answer as never) => {
    assert.deepStrictEqual(read(answer), expected)
  })

  it("is read in camel case or snake case where the codec says so, with zero as absent and null as a value", () => {
    const members = { id: text, dueAt: optional(text), size: optional(nonZero), data: optional(json) }
    const codec = fields<{ id: string; dueAt?: string; size?: number; data?: unknown }>(members)
    const answer = { id: "a", due_at: "now", size: 0, data: null }

    assert.deepStrictEqual(reader(codec)(answer), { id: "a", data: null })
    assert.deepStrictEqual(reader(camelOrSnake(codec))(answer), { id: "a", dueAt: "now", data: null })
  })

  it("with absent fields gets their defaults, as new objects each time", () => {
    const codec = fields<{ items: Array<string>; total: number }>({
      items: omittedWhen([], list(text)),
      total: omittedWhen(0, digits)
    })
    const [one, other] = [reader(codec)({}), reader(codec)({})]

    assert.deepStrictEqual([one, other], Array(2).fill({ items: [], total: 0 }))
    assert.notStrictEqual(one!.items, other!.items)
    assert.deepStrictEqual(encoder(codec)(one!), {})
    assert.deepStrictEqual(encoder(codec)({ items: ["a"], total: 2 }), { items: ["a"], total: "2" })
  })

  it("without required fields cannot be read, and neither can a list that contains it", () => {
    assert.deepStrictEqual(
      [read({ name: "b" }), read([]), reader(list(codec))([{ id: "a" }, {}]), reader(list(codec))({})],
      [undefined, undefined, undefined, undefined]
    )
  })
})

it("a sent message has exactly the fields of the codec", () => {
  const sent = encoder(list(order))([{ id: "o-1", placedAt: "now", secret: "no" } as Order])

  assert.strictEqual(JSON.stringify(sent), '[{"id":"o-1","placed_at":"now"}]')
})

it("a codec is described in JSON Schema", () => {
  const codec = fields<{ a: string | number; b?: string; c?: string }>({
    a: anyOf(text, number),
    b: optional(text),
    c: onlyLegacyMayLack(text)
  })

  assert.deepStrictEqual(
    schemaOf(
      fields<Pick<Order, "id" | "placedAt">>({ id: text, placedAt: withWireName("placed_at", text) }),
      false
    ),
    {
      type: "object",
      properties: { id: { type: "string" }, placed_at: { type: "string" } },
      required: ["id", "placed_at"],
      additionalProperties: false
    }
  )
  assert.deepStrictEqual(schemaOf(codec, true)["required"], ["a", "c"])
})

describe("messages of legacy servers and other dialects", () => {
  const mode = word("ACK_MODE", "auto", "manual")
  const group = camelOrSnake(
    merge(
      fields<{ groupId: string; lagCount: number }>({
        groupId: withLegacyNames(text, "id"),
        lagCount: exact(orElse(digits, 0))
      }),
      fields<{ ackMode: "auto" | "manual"; members: Array<string>; usedAt?: string; output?: unknown }>({
        ackMode: orElse(mode, "auto"),
        members: omittedWhen([], lenientList(text)),
        usedAt: optional(time),
        output: optional(json)
      })
    )
  )

  it.each(["manual", "MANUAL", "ACK_MODE_MANUAL", "ack_mode_manual", 2, "2"])(
    "may write an enum value as %j",
    (said) => {
      assert.deepStrictEqual([reader(mode)(said), decoder(mode, "It")(said)], ["manual", "manual"])
    }
  )

  it.each([
    ["ACK_MODE_UNSPECIFIED", undefined],
    [0, undefined],
    ["", undefined],
    ["never", "never"],
    [9, 9],
    [true, true]
  ])(
    "may have %j, which is not a value of the enum and stays %j in a request, to be checked later",
    (said, given) => {
      assert.deepStrictEqual([reader(mode)(said), decoder(mode, "It")(said)], [undefined, given])
    }
  )

  it("are read in camel case, in snake case and under aliases, unless a field has only one spelling", () => {
    const read = reader(group)

    assert.deepStrictEqual(
      read({ group_id: "g", lag_count: "3", ack_mode: 2, used_at: "0001-01-01T00:00:00Z" }),
      {
        groupId: "g",
        lagCount: 0,
        ackMode: "manual",
        members: []
      }
    )
    assert.deepStrictEqual(read({ id: "g", lagCount: "3", usedAt: "2026-01-02T03:04:05Z", output: null }), {
      groupId: "g",
      lagCount: 3,
      ackMode: "auto",
      members: [],
      usedAt: "2026-01-02T03:04:05Z",
      output: null
    })
  })

  it("are sent with enum names and digits, without absent fields", () => {
    const send = encoder(group)

    assert.deepStrictEqual(send({ groupId: "g", lagCount: 3, ackMode: "manual", members: [] }), {
      groupId: "g",
      lagCount: "3",
      ackMode: "ACK_MODE_MANUAL"
    })
    assert.strictEqual(encoder(plainWord("STEP_STATUS", ["failed", "waiting"]))("failed"), "failed")
  })

  it("may have null where that has a meaning, and must have whole numbers where required", () => {
    const read = decoder(
      fields<{ filter?: string | null; limit?: number }>({
        filter: nullable(text),
        limit: optional(integer)
      }),
      "Change"
    )

    assert.deepStrictEqual(read({ filter: null, limit: null }), { filter: null })
    assert.throws(() => read({ limit: 1.5 }), ValidationError, "Change: limit: Expected an integer, got 1.5")
    assert.throws(() => read({ filter: 5 }), ValidationError, "Change: filter: Expected string, got number")
  })
})

describe("a list of bulk operations", () => {
  it("is read without kinds that this version does not know", () => {
    const one = { id: "bulk_1", action: "cancel", status: "completed", createdAt: "now", updatedAt: "now" }
    const { operations } = reader(listBulk.answer!)({
      operations: [{ ...one, id: "bulk_2", action: "something later" }, one]
    })!
    assert.deepStrictEqual(
      operations.map(({ id }) => id),
      ["bulk_1"]
    )
  })
})
