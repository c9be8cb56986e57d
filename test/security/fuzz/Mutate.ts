/**
 * Makes odd JSON and bytes out of valid ones. A value becomes a tree whose leaves are pieces of text, because many oddities
 * (duplicate members, lone surrogates, numbers out of range) cannot be expressed as a value.
 */
import type { Dice } from "../../durability/Plan.ts"

type Tree =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "list"; readonly items: Array<Tree> }
  | { readonly kind: "object"; readonly members: Array<[name: string, value: Tree]> }

const textOf = (value: unknown): Tree => ({ kind: "text", text: JSON.stringify(value) ?? "null" })

const treeOf = (value: unknown): Tree => {
  if (Array.isArray(value)) return { kind: "list", items: value.map(treeOf) }
  if (value === null || typeof value !== "object") return textOf(value)
  return {
    kind: "object",
    members: Object.entries(value).map(([name, item]) => [JSON.stringify(name), treeOf(item)])
  }
}

const print = (tree: Tree): string =>
  tree.kind === "text"
    ? tree.text
    : tree.kind === "list"
      ? `[${tree.items.map(print).join(",")}]`
      : `{${tree.members.map(([name, value]) => `${name}:${print(value)}`).join(",")}}`

const quoted = (text: string): string => JSON.stringify(text)
const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels)
const nestedObjects = (levels: number): string => '{"a":'.repeat(levels) + "1" + "}".repeat(levels)

/** Unexpected values. Long ones are rare, because they take time to make, send and read. */
const odd: ReadonlyArray<string> = [
  ["null", "true", "false", "0", "-1", "1", "-0", "0.1", "1e400", "-1e400", "1e308", "5e-324"],
  ["9007199254740993", "2147483648", "-2147483649", "4294967296", "18446744073709551616", "9".repeat(400)],
  [
    '""',
    '" "',
    '"a"',
    '"*"',
    '">"',
    '"**"',
    '"."',
    '".."',
    '"../../etc/passwd"',
    '"a:b:c"',
    '"a,b"',
    '"%00"'
  ],
  ['"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\\ufeff"', '"\\u202e"', '"\\u2028"', '"e\\u0301"', '"😀"'],
  [
    '"__proto__"',
    '"constructor"',
    '"toString"',
    '"hasOwnProperty"',
    '"then"',
    '"NaN"',
    '"Infinity"',
    '"null"'
  ],
  [
    '{"toString":1}',
    '{"toJSON":1}',
    '{"valueOf":null}',
    '{"then":1}',
    '{"length":-1}',
    '{"length":4294967296}'
  ],
  [
    '{"__proto__":{"polluted":1}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
    '{"_tag":"Success"}',
    "{}",
    "[]"
  ],
  [
    "[null]",
    "[[]]",
    "[{}]",
    '["a","a"]',
    '{"a":1,"a":2}',
    '{"":0}',
    '{"$ref":"#"}',
    '{"type":"Buffer","data":[1]}'
  ],
  ['"-1"', '"1e3"', '"0x10"', '"18446744073709551616"', '"9223372036854775807"', '"00"', '"1.5"', '"now"'],
  [
    '"1h"',
    '"0s"',
    '"1e999h"',
    '"-5m"',
    '"999999999999d"',
    '"275760-09-14T00:00:00Z"',
    '"0000-00-00"',
    "8.64e15"
  ],
  ['"* * * * *"', '"0 0 31 2 *"', '"99 99 99 99 99"', '"*/0 * * * *"', '"Europe/Nowhere"'],
  ['"events:order.*"', '"events:>"', '"system.>"', '"entity:order:*"', '"topic:"', '">.>"', '"order.*.*.*"'],
  ['"event.data.total > 1"', '"event."', '"[1,2,3].all(a, [1,2,3].all(b, a < b))"', '"1 / 0"', '"((((("'],
  [
    '"event.data.a.matches(\\"(a+)+$\\")"',
    '"true || event.x.y.z"',
    '"event.data == event.data"',
    '"\\"a\\" + 1"'
  ],
  ['"http://127.0.0.1:1/"', '"http://[::1]:1/x"', '"file:///etc/passwd"', '"https://a@b:c"', '"javascript:1"']
].flat()

const large = (dice: Dice): string =>
  dice.pick<() => string>([
    () => nested(dice.pick([50, 99, 100, 101, 1000, 10_000])),
    () => nestedObjects(dice.pick([50, 99, 100, 101, 1000, 10_000])),
    () =>
      quoted(dice.pick(["a", "*", "é", "\u0000", "a.", "("]).repeat(dice.pick([256, 1024, 5000, 70_000]))),
    () =>
      `[${dice
        .pick(["0", "{}", '"a"', "null", "[]"])
        .concat(",")
        .repeat(dice.pick([1000, 1001, 20_000]))}0]`,
    () => `{${Array.from({ length: dice.pick([100, 2000]) }, (_, i) => `"m${i}":${i}`).join(",")}}`,
    () =>
      quoted(
        `[${"1,".repeat(99)}1].all(a, [${"1,".repeat(99)}1].all(b, [${"1,".repeat(99)}1].all(c, true)))`
      ),
    () => quoted(`${"event.data.a + ".repeat(200)}event.data.a == ""`),
    () => quoted(`${"!".repeat(dice.pick([99, 5000]))}true`),
    () => quoted(`${"(".repeat(dice.pick([50, 3000]))}1${")".repeat(50)}`)
  ])()

const oddNames = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "toJSON",
  "then",
  "",
  "\u0000",
  "_tag",
  "$",
  "a.b"
]

const oddValue = (dice: Dice): Tree => ({
  kind: "text",
  text: dice.between(1, 12) === 1 ? large(dice) : dice.pick(odd)
})

/** All places of the tree that can be changed, each with a function that puts another value there. */
const placesIn = (tree: Tree): ReadonlyArray<readonly [value: Tree, put: (value: Tree) => void]> => {
  if (tree.kind === "text") return []
  const directPlaces =
    tree.kind === "list"
      ? tree.items.map((item, i) => [item, (value: Tree) => void (tree.items[i] = value)] as const)
      : tree.members.map((member) => [member[1], (value: Tree) => void (member[1] = value)] as const)
  return [...directPlaces, ...directPlaces.flatMap(([value]) => placesIn(value))]
}

const branchesIn = (tree: Tree): ReadonlyArray<Exclude<Tree, { kind: "text" }>> =>
  tree.kind === "text"
    ? []
    : [
        tree,
        ...(tree.kind === "list" ? tree.items : tree.members.map(([, value]) => value)).flatMap(branchesIn)
      ]

const changeOnce = (dice: Dice, tree: Tree): Tree => {
  const places = placesIn(tree)
  if (places.length === 0 || dice.between(1, 25) === 1) return oddValue(dice)
  const [value, put] = dice.pick(places)
  const branch = dice.pick(branchesIn(tree))
  switch (dice.between(1, 8)) {
    case 1:
      // replaces it with another value of the same request
      put({ kind: "text", text: print(dice.pick(places)[0]) })
      return tree
    case 2:
      put({ kind: "list", items: [value] })
      return tree
    case 3:
      if (branch.kind === "list")
        branch.items.push(...Array.from({ length: dice.between(1, 3) }, () => oddValue(dice)))
      else branch.members.push([quoted(dice.pick(oddNames)), oddValue(dice)])
      return tree
    case 4:
      // repeats a name
      if (branch.kind === "object" && branch.members.length > 0) {
        branch.members.push([dice.pick(branch.members)[0], oddValue(dice)])
      }
      return tree
    case 5:
      if (branch.kind === "object" && branch.members.length > 0)
        branch.members.splice(dice.between(0, branch.members.length - 1), 1)
      return tree
    default:
      put(oddValue(dice))
      return tree
  }
}

/** The JSON text of the value, with up to four oddities. */
export const mutateJson = (dice: Dice, value: unknown): string => {
  let tree = treeOf(value)
  for (let changes = dice.pick([1, 1, 1, 2, 2, 4]); changes > 0; changes--) tree = changeOnce(dice, tree)
  return print(tree)
}

/** The bytes with changes: cut, overwritten, repeated, or with others between them. */
export const mutateBytes = (dice: Dice, bytes: Buffer): Buffer => {
  let changed = Buffer.from(bytes)
  for (let changes = dice.between(1, 3); changes > 0; changes--) {
    const at = dice.between(0, Math.max(0, changed.length - 1))
    const rest = changed.subarray(at)
    switch (dice.between(1, 6)) {
      case 1:
        changed = changed.subarray(0, at)
        break
      case 2:
        changed = Buffer.concat([changed.subarray(0, at), rest.subarray(dice.between(1, 8))])
        break
      case 3:
        changed = Buffer.concat([changed, rest])
        break
      case 4:
        changed = Buffer.concat([changed.subarray(0, at), randomBytes(dice, dice.pick([1, 4, 100])), rest])
        break
      default:
        if (changed.length > 0)
          changed[at] = dice.pick([0, 1, 10, 13, 32, 34, 127, 128, 255, dice.between(0, 255)])
    }
  }
  return changed
}

export const randomBytes = (dice: Dice, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => dice.between(0, 255)))

/** The body of a request: mostly JSON with odd values, sometimes not JSON. */
export const mutateBody = (dice: Dice, value: unknown): Buffer => {
  const text = mutateJson(dice, value)
  switch (dice.between(1, 40)) {
    case 1:
      return mutateBytes(dice, Buffer.from(text))
    case 2:
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(text)])
    case 3:
      return Buffer.from(text, "utf16le")
    case 4:
      return Buffer.from(`${text}${text}`)
    case 5:
      return Buffer.alloc(0)
    default:
      return Buffer.from(text)
  }
}

/** A body of some megabytes, which is expensive for a server without limits. */
export const largeBody = (dice: Dice): Buffer =>
  Buffer.from(
    dice.pick<() => string>([
      () => "[".repeat(dice.pick([1_000_000, 4_300_000])),
      () => `{"event":${quoted("a".repeat(4_000_000))},"data":1}`,
      () => `{"events":[${`{"event":"a","data":1},`.repeat(100_000)}{}]}`,
      () => `{"event":"a","data":"${"\\u0000".repeat(500_000)}"}`,
      () => `{"id":${"9".repeat(2_000_000)}}`
    ])()
  )
