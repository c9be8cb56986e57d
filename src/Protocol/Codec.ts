/**
 * What travels, as plain data: what a value is, how its members are called, and which of them may be absent. Everything else is
 * made of that where it is needed, and when it is needed first, so that a bundle holds no more than what its program uses:
 *
 * - {@link decoder} reads a request, which has to be right: the first mistake is a `ValidationError` with its path.
 * - {@link taker} reads one whose values are checked by the service that gets them, in its own words.
 * - {@link reader} reads an answer of any Ironflow server, older ones and those of others, and makes the best of it.
 * - {@link encoder} makes what is sent: the members that are named here, and no other.
 * - {@link schemaOf} describes it in JSON Schema.
 *
 * Requests have members in lower camel case or in snake case, `null` for absent, and numbers as digits in a text too; what is not
 * known is passed over. What is in free data stays as it came.
 */

import { isObject } from "../Json.ts"

export type Node =
  | { readonly kind: "text"; readonly isFilled?: true; readonly isTime?: true }
  | { readonly kind: "number"; readonly isWhole?: true; readonly isText?: true; readonly isFilled?: true }
  | { readonly kind: "flag" }
  | { readonly kind: "json"; readonly isThere?: true }
  | { readonly kind: "object"; readonly of?: Node }
  | { readonly kind: "oneOf"; readonly values: ReadonlyArray<string> }
  | ({ readonly kind: "word" } & Words)
  | { readonly kind: "anyOf"; readonly nodes: ReadonlyArray<Node> }
  | { readonly kind: "list"; readonly of: Node; readonly skips?: true }
  | {
      readonly kind: "fields"
      readonly fields: { readonly [name: string]: FieldNode }
      readonly isEitherCase?: true
    }

/** The words of an enum, by their numbers from 1 up: 0 says nothing. */
interface Words {
  readonly prefix: string
  readonly words: ReadonlyArray<string>
  /** It is sent as it is. */
  readonly isPlain?: true
}

interface FieldNode {
  readonly of: Node
  /** What it is called on the way; as in the program otherwise. */
  readonly as?: string
  /** What legacy servers call it. */
  readonly also?: ReadonlyArray<string>
  readonly mayLack?: true
  /** In a request `null` says something, and is not another way to leave it out. */
  readonly mayBeNull?: true
  /** What an answer without it is read as. */
  readonly orElse?: unknown
  /** It is not sent where it is that, or an empty list. */
  readonly isLeftOut?: true
  /** It has one spelling, also where others have two ({@link eitherCase}). */
  readonly isExact?: true
  /** Legacy servers leave it out of answers, and this one never does. */
  readonly isAlwaysSent?: true
}

/** The type is that of the value in the program. */
interface Of<A> {
  readonly type?: A
}

export type Codec<A> = Node & Of<A>
/** A codec of the words of an enum. */
export type Word<A> = { readonly kind: "word" } & Words & Of<A>
type Needed<A> = Codec<A> | (FieldNode & { readonly mayLack?: never } & Of<A>)
type MayLack<A> = FieldNode & { readonly mayLack: true } & Of<A>

type Fields<A> = {
  readonly [K in keyof A]-?: object extends Pick<A, K> ? MayLack<Exclude<A[K], undefined>> : Needed<A[K]>
}

export const text: Codec<string> = { kind: "text" }
/** A text that is not empty, or none. */
export const filled: Codec<string> = { kind: "text", isFilled: true }
/** An ISO string, or none: some servers say so with the year 1. */
export const time: Codec<string> = { kind: "text", isFilled: true, isTime: true }
export const number: Codec<number> = { kind: "number" }
/** A number other than zero, or none: some servers say so with zero. */
export const nonZero: Codec<number> = { kind: "number", isFilled: true }
export const integer: Codec<number> = { kind: "number", isWhole: true }
/** A 64-bit integer: digits in a text. */
export const digits: Codec<number> = { kind: "number", isWhole: true, isText: true }
export const flag: Codec<boolean> = { kind: "flag" }
/** Anything, which stays as it is. */
export const json: Codec<unknown> = { kind: "json" }
/** Any JSON object, which stays as it is. */
export const object: Codec<{ readonly [name: string]: unknown }> = { kind: "object" }

// functions: bundlers forget of constants that calling them does nothing, and would keep every codec

/* @__NO_SIDE_EFFECTS__ */
export function oneOf<const A extends string>(...values: ReadonlyArray<A>): Codec<A> {
  return { kind: "oneOf", values }
}
/** One of a list of words that there is already. */
/* @__NO_SIDE_EFFECTS__ */
export function among<const A extends string>(values: ReadonlyArray<A>): Codec<A> {
  return { kind: "oneOf", values }
}
/** Anything but `null`, of which the type is known: it stays as it is. */
/* @__NO_SIDE_EFFECTS__ */
export function asItIs<A>(): Codec<A> {
  return { kind: "json", isThere: true }
}
/**
 * A word of an enum, which is sent as `<PREFIX>_<WORD>` and read in any spelling: `manual`, `MANUAL`, `ACK_MODE_MANUAL` or its number.
 * In a request what is none of the words comes as it is, for whoever checks it.
 */
/* @__NO_SIDE_EFFECTS__ */
export function word<const A extends string>(prefix: string, ...words: ReadonlyArray<A>): Word<A> {
  return { kind: "word", prefix, words }
}
/** The same, which is sent as it is. */
/* @__NO_SIDE_EFFECTS__ */
export function plainWord<const A extends string>(prefix: string, words: ReadonlyArray<A>): Codec<A> {
  return { kind: "word", prefix, words, isPlain: true }
}
/** An object whose members are alike. */
/* @__NO_SIDE_EFFECTS__ */
export function entries<A>(of: Codec<A>): Codec<{ readonly [name: string]: A }> {
  return { kind: "object", of }
}
/* @__NO_SIDE_EFFECTS__ */
export function anyOf<N extends ReadonlyArray<Codec<unknown>>>(...nodes: N): Codec<TypeOf<N[number]>> {
  return { kind: "anyOf", nodes }
}
/* @__NO_SIDE_EFFECTS__ */
export function list<A>(of: Codec<A>): Codec<Array<A>> {
  return { kind: "list", of }
}
/** A list; what in an answer is none of its items is left out. */
/* @__NO_SIDE_EFFECTS__ */
export function some<A>(of: Codec<A>): Codec<Array<A>> {
  return { kind: "list", of, skips: true }
}
/** The type of what a codec is of. */
export type TypeOf<C> = C extends Of<infer A> ? A : never
type Member = Codec<unknown> | (FieldNode & Of<unknown>)
type MembersOf<F> = {
  readonly [K in keyof F as F[K] extends { readonly mayLack: true } ? never : K]: TypeOf<F[K]>
} & { readonly [K in keyof F as F[K] extends { readonly mayLack: true } ? K : never]?: TypeOf<F[K]> }
type Plain<A> = { [K in keyof A]: A[K] }

/** An object with these members: those of the type, and no other. */
/* @__NO_SIDE_EFFECTS__ */
export function fields<A extends object>(fields: Fields<A>): Codec<A> {
  return {
    kind: "fields",
    fields: Object.fromEntries(
      Object.entries<Needed<unknown> | MayLack<unknown>>(fields).map(([name, field]) => [
        name,
        fieldOf(field)
      ])
    )
  }
}
/** The same, whose type is made of the members. */
/* @__NO_SIDE_EFFECTS__ */
export function struct<F extends { readonly [name: string]: Member }>(
  members: F
): Codec<Plain<MembersOf<F>>> {
  // the type is made so
  return fields(members as never) as never
}

/** The same, whose members have names in snake case on the way. */
/* @__NO_SIDE_EFFECTS__ */
export function snaked<A extends object>(members: Fields<A>): Codec<A> {
  return fields<A>(
    // each stays what it was, with a name
    Object.fromEntries(
      Object.entries<Needed<unknown> | MayLack<unknown>>(members).map(([name, field]) => [
        name,
        { ...fieldOf(field), as: snakeCase(name) }
      ])
    ) as never
  )
}

/** The same, whose members an answer may have in either case of letters, and so may what is in them. */
/* @__NO_SIDE_EFFECTS__ */
export function eitherCase<A>(codec: Codec<A>): Codec<A> {
  return codec.kind === "fields" ? { ...codec, isEitherCase: true } : codec
}

/** An object with the members of both. */
/* @__NO_SIDE_EFFECTS__ */
export function both<A extends object, B extends object>(one: Codec<A>, other: Codec<B>): Codec<A & B> {
  return { kind: "fields", fields: { ...membersOf(one), ...membersOf(other) } }
}

export const membersOf = (node: Node) => (node.kind === "fields" ? node.fields : {})

const fieldOf = <A>(of: Codec<A> | (FieldNode & Of<A>)): FieldNode => ("kind" in of ? { of } : of)

/** A member that may be absent. */
/* @__NO_SIDE_EFFECTS__ */
export function optional<A>(of: Codec<A>): MayLack<A> {
  return { of, mayLack: true }
}
/** One that may be absent, or `null` in a request to say something. */
/* @__NO_SIDE_EFFECTS__ */
export function nullable<A>(of: Codec<A>): MayLack<A | null> {
  return { of, mayLack: true, mayBeNull: true }
}
/** One that is always there in our answers, and absent in those of legacy servers. */
/* @__NO_SIDE_EFFECTS__ */
export function ours<A>(of: Codec<A>): MayLack<A> {
  return { of, mayLack: true, isAlwaysSent: true }
}
/** One that is always there; an answer without it is read as if it said `value`. */
/* @__NO_SIDE_EFFECTS__ */
export function orElse<A>(of: Codec<A>, value: A): Needed<A> {
  return { of, orElse: value }
}
/** One that is not sent where it is `value`, or an empty list; an answer without it is read as if it said so. */
/* @__NO_SIDE_EFFECTS__ */
export function unless<A>(value: A, of: Codec<A>): Needed<A> {
  return { of, orElse: value, isLeftOut: true }
}
/** One that has one spelling, also where others have two ({@link eitherCase}). */
/* @__NO_SIDE_EFFECTS__ */
export function exact<F extends FieldNode | Codec<unknown>>(
  field: F
): F extends MayLack<infer A> ? MayLack<A> : F extends Of<infer A> ? Needed<A> : never {
  // as below
  return { ...fieldOf(field), isExact: true } as never
}
/** One that legacy servers call by these names. */
/* @__NO_SIDE_EFFECTS__ */
export function also<F extends FieldNode | Codec<unknown>>(
  field: F,
  ...names: ReadonlyArray<string>
): F extends MayLack<infer A> ? MayLack<A> : F extends Of<infer A> ? Needed<A> : never {
  // as below
  return { ...fieldOf(field), also: names } as never
}
/** One that has another name on the way. */
/* @__NO_SIDE_EFFECTS__ */
export function as<F extends FieldNode | Codec<unknown>>(
  name: string,
  field: F
): F extends MayLack<infer A> ? MayLack<A> : F extends Of<infer A> ? Needed<A> : never {
  // a field stays what it was, with a name
  return { ...fieldOf(field), as: name } as never
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

export type Read = (value: unknown) => unknown

const readers = new WeakMap<Node, Read>()

/** Reads answers: `undefined` for what cannot be read. */
export const reader = <A>(codec: Codec<A>): ((answer: unknown) => A | undefined) => {
  let read = readers.get(codec)
  // it is made when there is something to read
  if (read === undefined) {
    let made: Read | undefined
    readers.set(codec, (read = (answer) => (made ??= readAnswer(codec, false))(answer)))
  }
  // what the node says is what the type says
  return read as (answer: unknown) => A | undefined
}

const readAnswer = (node: Node, isEitherCase: boolean): Read => {
  switch (node.kind) {
    case "text":
      return (value) =>
        typeof value !== "string" ||
        (node.isFilled && value === "") ||
        (node.isTime && value.startsWith("0001-"))
          ? undefined
          : value
    case "number":
      return (value) => {
        const read = toNumber(value)
        return typeof read === "number" && (read !== 0 || !node.isFilled) ? read : undefined
      }
    case "flag":
      return (value) => (typeof value === "boolean" ? value : undefined)
    case "json":
      return (value) => (value === null && node.isThere ? undefined : value)
    case "object": {
      const { of } = node
      if (of === undefined) return (value) => (isObject(value) ? value : undefined)
      const read = readAnswer(of, isEitherCase)
      return (value) =>
        isObject(value)
          ? Object.fromEntries(
              Object.entries(value).flatMap(([name, member]) => {
                const found = read(member)
                return found === undefined ? [] : [[name, found]]
              })
            )
          : undefined
    }
    case "oneOf":
      return (value) => node.values.find((one) => one === value)
    case "word":
      return (value) => {
        const said = wordIn(node, value)
        return node.words.find((word) => word === said)
      }
    case "anyOf": {
      const reads = node.nodes.map((node) => readAnswer(node, isEitherCase))
      return (value) => reads.reduce<unknown>((found, read) => found ?? read(value), undefined)
    }
    case "list": {
      const read = readAnswer(node.of, isEitherCase)
      return (value) => {
        if (!Array.isArray(value)) return undefined
        const items = value.map(read)
        if (!items.includes(undefined)) return items
        return node.skips ? items.filter((item) => item !== undefined) : undefined
      }
    }
    case "fields": {
      const isEither = isEitherCase || node.isEitherCase === true
      const members = Object.entries(node.fields).map(([name, { also = [], as = name, of, ...field }]) => {
        const names = [as, ...also]
        const others = isEither && field.isExact !== true ? names.flatMap((one) => otherCase(one) ?? []) : []
        return [name, [...names, ...others], readAnswer(of, isEither), field] as const
      })
      return (answer) => {
        if (!isObject(answer)) return undefined
        const result: Record<string, unknown> = {}
        for (const [name, names, read, { mayLack, orElse }] of members) {
          let value: unknown
          for (const as of names) {
            value = read(answer[as])
            if (value !== undefined) break
          }
          if (value === undefined) value = anew(orElse)
          if (value !== undefined) result[name] = value
          else if (!mayLack) return undefined
        }
        return result
      }
    }
  }
}

/** Whoever gets it may change it. */
const anew = (value: unknown): unknown =>
  typeof value !== "object" || value === null
    ? value
    : Array.isArray(value)
      ? [...(value as Array<unknown>)]
      : { ...value }

export const toNumber: Read = (value) =>
  typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value

/** The name in snake case, of one in camel case, and the other way round; `undefined` where there is no other. */
export const otherCase = (name: string): string | undefined => {
  const other = name.includes("_")
    ? name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    : snakeCase(name)
  return other === name ? undefined : other
}

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** The members under names in snake case. */
export const snakeKeys = <A>(members: { readonly [name: string]: A }): { [name: string]: A } =>
  Object.fromEntries(Object.entries(members).map(([name, member]) => [snakeCase(name), member]))

/** The word in any spelling; `undefined` when nothing is said. What is none of the words comes back as it is. */
export const wordIn = ({ prefix, words }: Words, said: unknown): unknown => {
  if (said === undefined || said === null || said === "") return undefined
  const isNumber = typeof said === "number" || (typeof said === "string" && /^\d+$/.test(said))
  if (isNumber) return Number(said) === 0 ? undefined : (words[Number(said) - 1] ?? said)
  if (typeof said !== "string") return said
  const word = said.toLowerCase().replace(`${prefix.toLowerCase()}_`, "")
  return word === "unspecified" ? undefined : words.includes(word) ? word : said
}

/** A word as it is sent. */
export const wordOf = ({ isPlain, prefix }: Words, word: unknown): string =>
  isPlain === true ? String(word) : `${prefix}_${String(word).toUpperCase()}`
