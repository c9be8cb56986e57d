import { assert, describe, it } from "@effect/vitest"
import { Environment } from "@marcbachmann/cel-js"
import { compileExpression, evaluateExpression } from "../src/Expression.ts"
import {
  BudgetExceeded,
  limitCaches,
  countNodes,
  functionPrices,
  MAX_BYTES,
  MAX_EXPRESSION_STEPS,
  spentByLast,
  withinBudget
} from "../src/ExpressionBudget.ts"

const over = (data: unknown) => ({ event: { name: "order.placed", data } })

const hundred = `[${Array.from({ length: 100 }, (_, i) => i % 10).join()}]`
const nested = (depth: number): string =>
  depth === 0 ? "true" : `${hundred}.all(v${depth}, ${nested(depth - 1)})`
const items = (n: number) => Array.from({ length: n }, (_, i) => ({ id: i, parts: [i] }))
const members = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, i]))
const long = "a".repeat(400_000)

describe("an evaluation that would take long", () => {
  it.each<readonly [what: string, expression: string, data: unknown]>([
    ["loops over lists in the expression", nested(4), {}],
    [
      "loops whose errors do not decide the result",
      `${hundred}.all(a, ${hundred}.exists(b, ${hundred}.exists(c, 1/0 == 1)))`,
      {}
    ],
    ["errors on both sides of ||", `event.data.a.all(x, x.no == 1 || x.no == 2)`, { a: items(20_000) }],
    ["sums of lists", `size(${Array(40).fill("event.data.a").join(" + ")}) == 0`, { a: items(20_000) }],
    ["sums of texts", `size(${Array(8).fill("event.data.s").join(" + ")}) == 0`, { s: long }],
    [
      "loops inside loops over data",
      "event.data.a.exists(x, event.data.a.exists(y, x.id == -y.id - 1.0))",
      { a: items(20_000) }
    ],
    [
      "lists that are made in loops",
      "event.data.a.exists(x, size(event.data.a.map(y, y)) == 0)",
      { a: items(2000) }
    ],
    [
      "equal data that is compared often",
      `${hundred}.all(x, event.data.a == event.data.b)`,
      { a: items(20_000), b: items(20_000) }
    ],
    [
      "equal maps that are compared often",
      `${hundred}.all(x, event.data.a == event.data.b)`,
      { a: members(20_000), b: members(20_000) }
    ],
    [
      "loops over large maps that end at once",
      `${hundred}.all(x, event.data.a.exists(k, true))`,
      { a: members(20_000) }
    ],
    ["searches in a list", `${hundred}.all(x, !("b" in event.data.a))`, { a: Array(20_000).fill("a") }],
    [
      "long texts that are compared",
      `${hundred}.all(x, event.data.a != event.data.b)`,
      { a: long, b: `${long.slice(1)}b` }
    ],
    [
      "the order of long texts",
      `${hundred}.all(x, event.data.a <= event.data.b)`,
      { a: long, b: `${long.slice(1)}b` }
    ],
    [
      "contains",
      `${hundred}.all(x, !event.data.s.contains(event.data.p))`,
      { s: long, p: `${long.slice(200_000)}b` }
    ],
    ["indexOf", "event.data.s.indexOf(event.data.p) > 0", { s: long, p: `${long.slice(200_000)}b` }],
    ["lastIndexOf", "event.data.s.lastIndexOf(event.data.p) > 0", { s: long, p: `b${long.slice(200_000)}` }],
    ["split", "event.data.s.split('').size() == 0", { s: long }],
    [
      "split by a long text",
      "event.data.s.split(event.data.p, 2).size() == 0",
      { s: long, p: `${long.slice(200_000)}b` }
    ],
    ["join", "event.data.a.join(event.data.s) == ''", { a: ["a", "b", "c", "d"], s: long }],
    ["lowerAscii", `${hundred}.all(x, event.data.s.lowerAscii() != '')`, { s: long }],
    ["the size of texts", `${hundred}.all(x, size(event.data.s) > 0)`, { s: long }],
    ["the size of maps", `${hundred}.all(x, size(event.data.a) > 0)`, { a: members(20_000) }],
    ["bytes", `${hundred}.all(x, size(bytes(event.data.s)) > 0)`, { s: long }],
    ["JSON", "bytes(event.data.s).json() == {}", { s: `[${"1,".repeat(20_000)}1]` }],
    ["durations", "duration(event.data.s) == duration('1s')", { s: "1".repeat(10_000) }],
    [
      "time zones",
      `${nested(1).replace("true", `${hundred}.all(x, timestamp("2026-01-01T00:00:00Z").getHours("Europe/Berlin") == 1)`)}`,
      {}
    ],
    ["lists as keys of maps", `${hundred}.all(x, {event.data.a: 1} != {})`, { a: items(20_000) }],
    ["lists that are looked up in maps", `${hundred}.all(x, !(event.data.a in event))`, { a: items(20_000) }],
    ["lists as names of fields", `${hundred}.exists(x, event[event.data.a])`, { a: items(20_000) }],
    [
      "its own names",
      `${hundred}.all(x, cel.bind(y, event.data.a + event.data.a, size(y) > 0))`,
      { a: items(20_000) }
    ]
  ])("is given up when its budget is used up: %s", (_, expression, data) => {
    const { error, exceeded, matched } = evaluateExpression(expression, over(data))

    assert.deepStrictEqual({ exceeded, matched }, { exceeded: true, matched: false }, error)
    assert.match(error ?? "", /stopped(?: after 300000 steps|, because it made more than 1000000 bytes)/)
    const { bytes, steps } = spentByLast()
    assert.isTrue(steps > MAX_EXPRESSION_STEPS || bytes > MAX_BYTES)
  })

  it.each<readonly [expression: string, data: unknown, matched: boolean]>([
    ["event.data.a.exists(x, x.id == -1)", { a: items(30_000) }, false],
    ["event.data.a.filter(x, x.id > 5 && x.id < 7).size() == 1", { a: items(15_000) }, true],
    ["event.data.a.exists(x, x.no == 1 || x.id == 900)", { a: items(1000) }, true],
    ["event.data.a == event.data.b", { a: items(20_000), b: items(20_000) }, true],
    ["event.data.s.contains(event.data.p)", { s: `${long}b`, p: `${long.slice(200_000)}b` }, true],
    ["event.data.s.contains(event.data.p)", { s: long, p: `${long.slice(200_000)}b` }, false],
    ["event.data.s.contains('urgent')", { s: `${long}urgent` }, true],
    ["event.data.s.split(',').size() == 3", { s: `${long},b,c` }, true],
    ["'z' in event.data.a", { a: [...Array<string>(100_000).fill("a"), "z"] }, true],
    ["event.data.n == null", { n: members(20_000) }, false]
  ])("does not include one that takes little time: %s", (expression, data, matched) => {
    assert.deepStrictEqual(evaluateExpression(expression, over(data)), { matched })
  })

  it("does not reduce the budget of the next evaluation", () => {
    assert.isFalse(evaluateExpression(nested(4), over({})).matched)

    assert.deepStrictEqual(evaluateExpression(nested(1), over({})), { matched: true })
    assert.isBelow(spentByLast().steps, 1000)
  })

  it("leaves the limit of stack traces unchanged", () => {
    const before = Error.stackTraceLimit

    evaluateExpression("event.data.no || event.data.a", over({ a: true }))
    evaluateExpression(`event.data.no || ${nested(4)}`, over({}))

    assert.strictEqual(Error.stackTraceLimit, before)
  })

  it("has a short error, however long its data is", () => {
    const { error = "" } = evaluateExpression("event.data[event.data.s]", over({ s: long }))

    assert.match(error, /^No such key: aaa/)
    assert.isBelow(error.length, 600)
  })
})

describe("a compiled expression", () => {
  it("has types whose names do not double with each loop", () => {
    const text = `[1]${".map(a, {a: a})".repeat(60)}.size() == 1`

    const started = process.memoryUsage().heapUsed
    assert.deepStrictEqual(compileExpression(text, ["event"]).evaluate(over({})), { matched: true })
    assert.isBelow(process.memoryUsage().heapUsed - started, 50_000_000)
  })

  it("leaves no memory of unknown functions", () => {
    const environment = bounded()
    const seen: Array<string> = []
    const get = Map.prototype.set
    Map.prototype.set = function (key, value) {
      if (typeof key === "string" && key.includes("nobody")) seen.push(key)
      return get.call(this, key, value)
    }
    try {
      for (const text of ["nobody(1)", "event.nobody()", "event.nobody(event, 2)"]) {
        assert.match(environment.parse(text).check().error?.message ?? "", /no matching overload/)
      }
    } finally {
      Map.prototype.set = get
    }
    assert.deepStrictEqual(seen, [])
  })
})

it("every function of the library has a cost", () => {
  const names = new Set(
    plain()
      .getDefinitions()
      .functions.map(({ name }) => name)
  )

  assert.deepStrictEqual(
    [...names].filter((name) => functionPrices[name] === undefined),
    []
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// The results of the library alone
// ---------------------------------------------------------------------------------------------------------------------

const plain = () => {
  const made = new Environment({
    unlistedVariablesAreDyn: false,
    homogeneousAggregateLiterals: false,
    limits: { maxAstNodes: 2000, maxDepth: 64 }
  })
  made.registerVariable("event", "dyn")
  made.registerOperator("double + int: double", (a: number, b: bigint) => a + Number(b))
  made.registerOperator("int + double: double", (a: bigint, b: number) => Number(a) + b)
  return made
}

const bounded = () => {
  const made = plain()
  limitCaches(made)
  return made
}

/** A generator of random numbers that depends on its seed only (mulberry32). */
const makeRandom = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const writer = (seed: number) => {
  const chance = makeRandom(seed)
  const one = <A>(from: ReadonlyArray<A>): A => from[Math.floor(chance() * from.length)]!
  let names: ReadonlyArray<string> = []

  const value = (depth: number): unknown =>
    depth === 0 || chance() < 0.5
      ? one<unknown>([
          0,
          1,
          2.5,
          -3,
          "",
          "a",
          "ab",
          "b,a",
          "Ä€😀",
          true,
          false,
          null,
          "2026-01-02T03:04:05Z",
          "90s"
        ])
      : chance() < 0.5
        ? Array.from({ length: Math.floor(chance() * 4) }, () => value(depth - 1))
        : Object.fromEntries(
            ["a", "b", "n"].flatMap((name) => (chance() < 0.6 ? [[name, value(depth - 1)]] : []))
          )

  const any = (depth: number): string =>
    one([() => bool(depth), () => number(depth), () => text(depth), () => list(depth), () => data(depth)])()

  const data = (depth: number): string =>
    one([
      () => "event.data",
      () => `event.data.${one(["a", "b", "n", "l", "s", "no"])}`,
      () => `event.data.${one(["a", "b", "l"])}.${one(["a", "b", "n"])}`,
      () => `event.data.l[${depth === 0 ? 0 : number(depth - 1)}]`,
      () => (names.length === 0 ? "event.data.n" : one(names)),
      () => `{${one(["'a'", "1"])}: ${depth === 0 ? "1" : any(depth - 1)}, 'b': [1]}`,
      () => `bytes(${depth === 0 ? "'ab'" : text(depth - 1)})`
    ])()

  const number = (depth: number): string =>
    depth <= 0
      ? one(["0", "1", "2", "2.5", "3u", "event.data.n"])
      : one([
          () => number(0),
          () => `(${number(depth - 1)} ${one(["+", "-", "*", "/", "%"])} ${number(depth - 1)})`,
          () => `size(${any(depth - 1)})`,
          () => `(${list(depth - 1)}).size()`,
          () => `${one(["int", "double", "uint"])}(${any(depth - 1)})`,
          () => `-${number(depth - 1)}`,
          () => `${text(depth - 1)}.${one(["indexOf", "lastIndexOf"])}(${text(depth - 1)})`,
          () =>
            `timestamp(${text(depth - 1)}).get${one(["Hours", "Date", "DayOfYear"])}(${one(["", "'Europe/Berlin'"])})`,
          () => `duration(${text(depth - 1)}).getSeconds()`
        ])()

  const text = (depth: number): string =>
    depth <= 0
      ? one(["''", "'a'", "'ab'", "'1'", "'90s'", "'2026-01-02T03:04:05Z'", "event.data.s"])
      : one([
          () => text(0),
          () => `(${text(depth - 1)} + ${text(depth - 1)})`,
          () => `string(${any(depth - 1)})`,
          () => `${text(depth - 1)}.${one(["lowerAscii", "upperAscii", "trim"])}()`,
          () => `${text(depth - 1)}.substring(${number(depth - 1)})`,
          () => `${list(depth - 1)}.join(${one(["", "','"])})`,
          () => `bytes(${text(depth - 1)}).${one(["hex", "base64", "string"])}()`
        ])()

  const list = (depth: number): string =>
    depth <= 0
      ? one(["[]", "[1, 2]", "['a', 'ab']", "event.data.l"])
      : one([
          () => list(0),
          () => `[${any(depth - 1)}, ${any(depth - 1)}]`,
          () => `(${list(depth - 1)} + ${list(depth - 1)})`,
          () => loop(depth, "filter", bool),
          () => loop(depth, "map", any),
          () => `${text(depth - 1)}.split(${one(["''", "','", "',', 2"])})`
        ])()

  const loop = (depth: number, name: string, body: (depth: number) => string): string => {
    const over = chance() < 0.8 ? list(depth - 1) : data(depth - 1)
    const outer = names
    names = [...outer, `v${depth}`]
    const inner = body(depth - 1)
    names = outer
    return `(${over}).${name}(v${depth}, ${inner})`
  }

  const bool = (depth: number): string =>
    depth <= 0
      ? one(["true", "false", "event.data.b", "event.data.n > 1"])
      : one([
          () => `(${any(depth - 1)} ${one(["==", "!="])} ${any(depth - 1)})`,
          () => `(${data(depth - 1)} == ${data(depth - 1)})`,
          () => `(${number(depth - 1)} ${one(["<", "<=", ">", ">="])} ${number(depth - 1)})`,
          () => `(${text(depth - 1)} ${one(["<", ">="])} ${text(depth - 1)})`,
          () => `(${any(depth - 1)} in ${one([list, data])(depth - 1)})`,
          () => `(${bool(depth - 1)} ${one(["&&", "||"])} ${bool(depth - 1)})`,
          () => `!${bool(depth - 1)}`,
          () => `(${bool(depth - 1)} ? ${bool(depth - 1)} : ${bool(depth - 1)})`,
          () => `has(event.data.${one(["a", "n", "a.b", "no.b"])})`,
          () => loop(depth, one(["all", "exists", "exists_one"]), bool),
          () => `${text(depth - 1)}.${one(["contains", "startsWith", "endsWith"])}(${text(depth - 1)})`,
          () => `cel.bind(w${depth}, ${any(depth - 1)}, w${depth} == ${any(depth - 1)})`,
          () => `type(${any(depth - 1)}) == ${one(["int", "string", "list", "map"])}`
        ])()

  return {
    expression: () => bool(4),
    data: () => ({
      ...Object.fromEntries(["a", "b"].map((name) => [name, value(3)])),
      l: one([[], [1, 2], ["a", "ab"], [[1], ["a"]], [{ a: 1 }, { a: null }]]),
      n: value(0),
      s: one(["", "a", "abab", "b,a", 1])
    })
  }
}

const outcome = (evaluate: () => unknown): unknown => {
  try {
    return { value: evaluate() }
  } catch (error) {
    if (error instanceof BudgetExceeded) throw error
    const { summary = String(error) } = error as { readonly summary?: string }
    // our error names types inside lists and maps less precisely
    return { error: summary.replaceAll(/(dyn<)?(list|map).*/g, "$2") }
  }
}

it.each([1, 2, 3, 4])("an evaluation has the same result as the library alone (seed %d)", (seed) => {
  const library = plain()
  const budgeted = bounded()
  const { data, expression } = writer(seed)
  const seen = { checked: 0, values: 0, errors: 0 }
  for (let i = 0; i < 3000; i++) {
    const text = expression()
    if (text.length > 4096) continue
    const alone = library.parse(text)
    const counted = budgeted.parse(text)
    const refused = counted.check().error
    // our check may find mistakes in lists inside lists later, at evaluation
    if (alone.check().error !== undefined) continue
    assert.isUndefined(refused, text)
    seen.checked++
    countNodes(counted.ast)
    for (const variables of [over(data()), over(data())]) {
      const expected = outcome(() => alone(variables))
      seen["value" in (expected as object) ? "values" : "errors"]++
      assert.deepStrictEqual(
        outcome(() => withinBudget(counted, variables)),
        expected,
        `${text} over ${JSON.stringify(variables)}`
      )
    }
  }
  assert.isAbove(seen.checked, 800)
  assert.isAbove(seen.values, 500)
  assert.isAbove(seen.errors, 100)
})
