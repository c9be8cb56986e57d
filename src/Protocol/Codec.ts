/**
 * Codecs: plain data that describes messages, with their types, names of members and optional members.
 * Everything else is derived from a codec on first use, so that a bundle only contains what its program uses:
 *
 * - `decoder` of `ServerCodec.ts` reads a request strictly: it throws a `ValidationError` with the path of the first mistake.
 * - `memberReader`, also there, reads a request whose values the service checks itself.
 * - {@link reader} reads an answer leniently. It may be from any Ironflow server, also a legacy one.
 * - `encoder` of `ServerCodec.ts` encodes a message, with only the members in the codec.
 * - `schemaOf`, also there, makes the JSON Schema of a message.
 *
 * Requests may have members in camel case or snake case, `null` for absent members, and numbers as strings of digits. Unknown
 * members are ignored. Free-form data is not changed.
 */

import { isObject } from "../Json.ts"

/**
 * The description of a value and of its encoding. `isFilled`: an empty string or 0 in an answer counts as absent.
 * `isTime`: the year 1 in an answer counts as absent. `isWhole`: an integer. `isText`: sent as a string of digits.
 * `isNonNull`: not null. `skipsInvalid`: invalid items of an answer are left out.
 */
export type Node =
  | { readonly kind: "text"; readonly isFilled?: true; readonly isTime?: true }
  | { readonly kind: "number"; readonly isWhole?: true; readonly isText?: true; readonly isFilled?: true }
  | { readonly kind: "flag" }
  | { readonly kind: "json"; readonly isNonNull?: true }
  | { readonly kind: "object"; readonly member?: Node }
  | { readonly kind: "oneOf"; readonly values: ReadonlyArray<string> }
  | ({ readonly kind: "word" } & Words)
  | { readonly kind: "anyOf"; readonly nodes: ReadonlyArray<Node> }
  | { readonly kind: "list"; readonly item: Node; readonly skipsInvalid?: true }
  | {
      readonly kind: "fields"
      readonly fields: { readonly [name: string]: FieldNode }
      readonly isCamelOrSnake?: true
    }

/** The values of an enum, numbered from 1; 0 means unspecified. */
interface Words {
  readonly prefix: string
  readonly words: ReadonlyArray<string>
  /** Whether a value is sent without the prefix. */
  readonly isPlain?: true
}

interface FieldNode {
  readonly value: Node
  /** The name on the wire; by default the name in code. */
  readonly wireName?: string
  /** Names that legacy servers use. */
  readonly legacyNames?: ReadonlyArray<string>
  readonly mayLack?: true
  /** Whether `null` in a request means something else than an absent member. */
  readonly mayBeNull?: true
  /** The value when an answer lacks the member. */
  readonly defaultValue?: unknown
  /** Whether the member is not sent when it has the value `defaultValue`, or is an empty list. */
  readonly isLeftOut?: true
  /** Whether the member has only one spelling, even inside {@link camelOrSnake}. */
  readonly isExact?: true
  /** Whether only legacy servers leave the member out, while the engine of this package always sends it. */
  readonly onlyLegacyMayLack?: true
}

/** Tells the compiler that the type of the value is `A`. At run time, no object has the member `type`. */
interface Of<A> {
  readonly type?: A
}

export type Codec<A> = Node & Of<A>
/** A codec of an enum. */
export type Word<A> = { readonly kind: "word" } & Words & Of<A>
type Needed<A> = Codec<A> | (FieldNode & { readonly mayLack?: never } & Of<A>)
type MayLack<A> = FieldNode & { readonly mayLack: true } & Of<A>

type Fields<A> = {
  readonly [K in keyof A]-?: object extends Pick<A, K> ? MayLack<Exclude<A[K], undefined>> : Needed<A[K]>
}

export const text: Codec<string> = { kind: "text" }
/** A non-empty string; an empty one counts as absent. */
export const nonEmptyText: Codec<string> = { kind: "text", isFilled: true }
/** An ISO string, or absent: some servers send the year 1 instead. */
export const time: Codec<string> = { kind: "text", isFilled: true, isTime: true }
export const number: Codec<number> = { kind: "number" }
/** A number other than zero, or absent: some servers send zero instead. */
export const nonZero: Codec<number> = { kind: "number", isFilled: true }
export const integer: Codec<number> = { kind: "number", isWhole: true }
/** A 64-bit integer, as a string of digits. */
export const digits: Codec<number> = { kind: "number", isWhole: true, isText: true }
export const flag: Codec<boolean> = { kind: "flag" }
/** Any JSON value, unchanged. */
export const json: Codec<unknown> = { kind: "json" }
/** Any JSON object, unchanged. */
export const object: Codec<{ readonly [name: string]: unknown }> = { kind: "object" }

// Declared with `function`: bundlers do not know that calls of a function in a constant have no side effects, and would
// keep every codec.

/* @__NO_SIDE_EFFECTS__ */
export function oneOf<const A extends string>(...values: ReadonlyArray<A>): Codec<A> {
  return { kind: "oneOf", values }
}
/** One of an existing list of strings. */
/* @__NO_SIDE_EFFECTS__ */
export function oneOfList<const A extends string>(values: ReadonlyArray<A>): Codec<A> {
  return { kind: "oneOf", values }
}
/** Any value but `null`, unchanged, of a known type. */
/* @__NO_SIDE_EFFECTS__ */
export function nonNullJson<A>(): Codec<A> {
  return { kind: "json", isNonNull: true }
}
/**
 * A value of an enum. It is sent as `<PREFIX>_<WORD>`, and read in any spelling: `manual`, `MANUAL`, `ACK_MODE_MANUAL` or its
 * number. An unknown value in a request is passed on, to be checked later.
 */
/* @__NO_SIDE_EFFECTS__ */
export function word<const A extends string>(prefix: string, ...words: ReadonlyArray<A>): Word<A> {
  return { kind: "word", prefix, words }
}
/** A value of an enum like that of {@link word}, but sent without the prefix. */
/* @__NO_SIDE_EFFECTS__ */
export function plainWord<const A extends string>(prefix: string, words: ReadonlyArray<A>): Codec<A> {
  return { kind: "word", prefix, words, isPlain: true }
}
/** An object whose members all have the same codec. */
/* @__NO_SIDE_EFFECTS__ */
export function entries<A>(member: Codec<A>): Codec<{ readonly [name: string]: A }> {
  return { kind: "object", member }
}
/* @__NO_SIDE_EFFECTS__ */
export function anyOf<N extends ReadonlyArray<Codec<unknown>>>(...nodes: N): Codec<TypeOf<N[number]>> {
  return { kind: "anyOf", nodes }
}
/* @__NO_SIDE_EFFECTS__ */
export function list<A>(item: Codec<A>): Codec<Array<A>> {
  return { kind: "list", item }
}
/** A list; an answer's invalid items are left out. */
/* @__NO_SIDE_EFFECTS__ */
export function lenientList<A>(item: Codec<A>): Codec<Array<A>> {
  return { kind: "list", item, skipsInvalid: true }
}
/** The type that a codec describes. */
export type TypeOf<C> = C extends Of<infer A> ? A : never
type Member = Codec<unknown> | (FieldNode & Of<unknown>)
type MembersOf<F> = {
  readonly [K in keyof F as F[K] extends { readonly mayLack: true } ? never : K]: TypeOf<F[K]>
} & { readonly [K in keyof F as F[K] extends { readonly mayLack: true } ? K : never]?: TypeOf<F[K]> }
type Plain<A> = { [K in keyof A]: A[K] }

/** An object with exactly the members of the type. */
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
/** An object with these members. Its type is derived from them. */
/* @__NO_SIDE_EFFECTS__ */
export function struct<F extends { readonly [name: string]: Member }>(
  members: F
): Codec<Plain<MembersOf<F>>> {
  // the type is derived from the members
  return fields(members as never) as never
}

/** An object with exactly the members of the type. On the wire their names are in snake case. */
/* @__NO_SIDE_EFFECTS__ */
export function snaked<A extends object>(members: Fields<A>): Codec<A> {
  return fields<A>(
    // each member stays the same, with a name
    Object.fromEntries(
      Object.entries<Needed<unknown> | MayLack<unknown>>(members).map(([name, field]) => [
        name,
        { ...fieldOf(field), wireName: snakeCase(name) }
      ])
    ) as never
  )
}

/** The same codec for answers whose members, at every level, may have names in camel case or in snake case. */
/* @__NO_SIDE_EFFECTS__ */
export function camelOrSnake<A>(codec: Codec<A>): Codec<A> {
  return codec.kind === "fields" ? { ...codec, isCamelOrSnake: true } : codec
}

/** An object with the members of two objects. */
/* @__NO_SIDE_EFFECTS__ */
export function merge<A extends object, B extends object>(one: Codec<A>, other: Codec<B>): Codec<A & B> {
  return { kind: "fields", fields: { ...membersOf(one), ...membersOf(other) } }
}

export const membersOf = (node: Node) => (node.kind === "fields" ? node.fields : {})

const fieldOf = <A>(member: Codec<A> | (FieldNode & Of<A>)): FieldNode =>
  "kind" in member ? { value: member } : member

/** A member that may be absent. */
/* @__NO_SIDE_EFFECTS__ */
export function optional<A>(value: Codec<A>): MayLack<A> {
  return { value, mayLack: true }
}
/** A member that may be absent, or in a request `null`, which means something else than absent. */
/* @__NO_SIDE_EFFECTS__ */
export function nullable<A>(value: Codec<A>): MayLack<A | null> {
  return { value, mayLack: true, mayBeNull: true }
}
/** A member that the engine of this package always sends, and that legacy servers may leave out. */
/* @__NO_SIDE_EFFECTS__ */
export function onlyLegacyMayLack<A>(value: Codec<A>): MayLack<A> {
  return { value, mayLack: true, onlyLegacyMayLack: true }
}
/** A member that is required in a request. In an answer that lacks the member, it is read as `defaultValue`. */
/* @__NO_SIDE_EFFECTS__ */
export function orElse<A>(value: Codec<A>, defaultValue: A): Needed<A> {
  return { value, defaultValue }
}
/**
 * A member that is not sent when it is `defaultValue` or an empty list. In an answer that lacks the member, it is read
 * as `defaultValue`.
 */
/* @__NO_SIDE_EFFECTS__ */
export function omittedWhen<A>(defaultValue: A, value: Codec<A>): Needed<A> {
  return { value, defaultValue, isLeftOut: true }
}
/** A member with only one spelling, even inside {@link camelOrSnake}. */
/* @__NO_SIDE_EFFECTS__ */
export function exact<F extends FieldNode | Codec<unknown>>(
  field: F
): F extends MayLack<infer A> ? MayLack<A> : F extends Of<infer A> ? Needed<A> : never {
  // the type of the member's value stays the same
  return { ...fieldOf(field), isExact: true } as never
}
/** A member that legacy servers send under one of these names. */
/* @__NO_SIDE_EFFECTS__ */
export function withLegacyNames<F extends FieldNode | Codec<unknown>>(
  field: F,
  ...names: ReadonlyArray<string>
): F extends MayLack<infer A> ? MayLack<A> : F extends Of<infer A> ? Needed<A> : never {
  // the type of the member's value stays the same
  return { ...fieldOf(field), legacyNames: names } as never
}
/** A member with another name on the wire. */
/* @__NO_SIDE_EFFECTS__ */
export function withWireName<F extends FieldNode | Codec<unknown>>(
  name: string,
  field: F
): F extends MayLack<infer A> ? MayLack<A> : F extends Of<infer A> ? Needed<A> : never {
  // the type of the member's value stays the same
  return { ...fieldOf(field), wireName: name } as never
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

export type Read = (value: unknown) => unknown

const readers = new WeakMap<Node, Read>()

/** The function that reads answers. It returns `undefined` for an answer that cannot be read. */
export const reader = <A>(codec: Codec<A>): ((answer: unknown) => A | undefined) => {
  let read = readers.get(codec)
  // created on first use
  if (read === undefined) {
    let compiled: Read | undefined
    readers.set(codec, (read = (answer) => (compiled ??= readAnswer(codec, false))(answer)))
  }
  // the codec's node determines the type
  return read as (answer: unknown) => A | undefined
}

const readAnswer = (node: Node, isCamelOrSnake: boolean): Read => {
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
        const result = toNumber(value)
        return typeof result === "number" && (result !== 0 || !node.isFilled) ? result : undefined
      }
    case "flag":
      return (value) => (typeof value === "boolean" ? value : undefined)
    case "json":
      return (value) => (value === null && node.isNonNull ? undefined : value)
    case "object": {
      if (node.member === undefined) return (value) => (isObject(value) ? value : undefined)
      const read = readAnswer(node.member, isCamelOrSnake)
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
      return (value) => node.values.find((known) => known === value)
    case "word":
      return (value) => {
        const found = readWord(node, value)
        return node.words.find((word) => word === found)
      }
    case "anyOf": {
      const reads = node.nodes.map((node) => readAnswer(node, isCamelOrSnake))
      return (value) => reads.reduce<unknown>((found, read) => found ?? read(value), undefined)
    }
    case "list": {
      const read = readAnswer(node.item, isCamelOrSnake)
      return (value) => {
        if (!Array.isArray(value)) return undefined
        const items = value.map(read)
        if (!items.includes(undefined)) return items
        return node.skipsInvalid ? items.filter((item) => item !== undefined) : undefined
      }
    }
    case "fields": {
      const isCamelOrSnakeHere = isCamelOrSnake || node.isCamelOrSnake === true
      const members = Object.entries(node.fields).map(
        ([name, { legacyNames = [], wireName = name, value, ...field }]) => {
          const names = [wireName, ...legacyNames]
          const otherNames =
            isCamelOrSnakeHere && field.isExact !== true
              ? names.flatMap((spelling) => otherCase(spelling) ?? [])
              : []
          return [name, [...names, ...otherNames], readAnswer(value, isCamelOrSnakeHere), field] as const
        }
      )
      return (answer) => {
        if (!isObject(answer)) return undefined
        const result: Record<string, unknown> = {}
        for (const [name, names, read, { mayLack, defaultValue }] of members) {
          let value: unknown
          for (const spelling of names) {
            value = read(answer[spelling])
            if (value !== undefined) break
          }
          if (value === undefined) value = copyDefault(defaultValue)
          if (value !== undefined) result[name] = value
          else if (!mayLack) return undefined
        }
        return result
      }
    }
  }
}

/** Copies a default, since the caller may change what it gets. */
const copyDefault = (value: unknown): unknown =>
  typeof value !== "object" || value === null
    ? value
    : Array.isArray(value)
      ? [...(value as Array<unknown>)]
      : { ...value }

export const toNumber: Read = (value) =>
  typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value

/** Converts a name from camel case to snake case, or back; `undefined` if both are the same. */
export const otherCase = (name: string): string | undefined => {
  const other = name.includes("_")
    ? name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    : snakeCase(name)
  return other === name ? undefined : other
}

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** The members with names in snake case. */
export const snakeKeys = <A>(members: { readonly [name: string]: A }): { [name: string]: A } =>
  Object.fromEntries(Object.entries(members).map(([name, member]) => [snakeCase(name), member]))

/**
 * Reads an enum value in any spelling. The result is `undefined` if the value is absent or unspecified. An unknown
 * value is returned unchanged.
 */
export const readWord = ({ prefix, words }: Words, value: unknown): unknown => {
  if (value === undefined || value === null || value === "") return undefined
  const isNumber = typeof value === "number" || (typeof value === "string" && /^\d+$/.test(value))
  if (isNumber) return Number(value) === 0 ? undefined : (words[Number(value) - 1] ?? value)
  if (typeof value !== "string") return value
  const word = value.toLowerCase().replace(`${prefix.toLowerCase()}_`, "")
  return word === "unspecified" ? undefined : words.includes(word) ? word : value
}

/** The enum value as it is sent. */
export const encodeWord = ({ isPlain, prefix }: Words, word: unknown): string =>
  isPlain === true ? String(word) : `${prefix}_${String(word).toUpperCase()}`
