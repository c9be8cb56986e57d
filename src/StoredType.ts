/**
 * The type of a value after it has been stored.
 *
 * The result of a step is stored as JSON, and the handler receives the stored form, in the first execution
 * and in every replay. {@link Stored} is the type of that form. {@link StorableResult} makes `step.run`
 * refuse types that JSON cannot represent. Both describe what `ResultEncoding.ts` and `Json.ts` do.
 *
 * A result type is looked up in a table (`StoredAs<T>[...]`), which has a row `any` that only an unresolved type
 * parameter may select. So in a generic helper that returns `Promise<T>`, the result of a step can be assigned to `T`;
 * for a concrete type the result is exact.
 */
import type { IronflowError } from "./Errors.ts"

declare const why: unique symbol

/** Represents a value that cannot be stored. `Why` says what to do. */
export interface NotStorable<Why extends string> {
  /** What to return instead. Absent at run time. */
  readonly [why]: Why
}

/**
 * The type of a value after it has been stored as JSON and read again:
 *
 * - an object with `toJSON` becomes what `toJSON` returns, so a `Date` is a string and a `Buffer` is `{ type, data }`;
 * - a class instance keeps its fields but not its methods. The compiler cannot tell getters from fields, so getters
 *   stay in the type although they are not stored. It cannot tell fields that hold functions from methods, so such
 *   fields are absent from the type although they fail the step;
 * - `NaN`, infinities and invalid dates become `null`, which the type cannot show;
 * - `undefined` in an array becomes `null`;
 * - errors stay errors with their fields; those of this package keep their class.
 *
 * Everything else keeps its type, including tuples, `readonly`, optional members, brands, `any` and `unknown`.
 */
export type Stored<T> = StoredAs<T>[HowStored<T>]

type HowStored<T> = [T] extends [never]
  ? "same"
  : [T] extends [Json | undefined | void]
    ? "same"
    : [Form<T>] extends [None]
      ? "any"
      : [T, Form<T>] extends [Form<T>, T]
        ? "same"
        : "form"

interface StoredAs<T> {
  same: T
  form: Form<T>
  any: Anything
}

/** A type that no value has. Only `any` and unresolved types extend it. */
interface None {
  readonly [none]: never
}
declare const none: unique symbol

// oxlint-disable-next-line typescript/no-explicit-any -- fits everywhere, as the header says
type Anything = any
// oxlint-disable-next-line typescript/no-explicit-any -- any arguments, any result
type AnyFunction = (...args: any) => any
// oxlint-disable-next-line typescript/no-explicit-any -- whatever is in it
type AnyMap = ReadonlyMap<any, any>

type Primitive = string | number | boolean | null | undefined | void

/** The types that JSON does not change, found in one comparison. */
type Json =
  string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json | undefined }

interface HasToJson {
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON gives it a key
  toJSON(...args: any): unknown
}

/** Types that are refused unless they have `toJSON`. `bigint` and `symbol` cannot have it. */
type Lost = AnyFunction | AnyMap | ReadonlySet<unknown> | PromiseLike<unknown> | RegExp | ArrayBuffer

/** The members of a union that are refused. */
type LostOf<T> = T extends bigint | symbol ? T : T extends HasToJson ? never : T extends Lost ? T : never

/** The advice in the compiler's error. */
type WhyLost<T> = T extends bigint
  ? "A bigint cannot be stored: JSON has none. Return String(value) instead"
  : T extends symbol
    ? "A symbol cannot be stored: JSON has none. Return plain data instead"
    : T extends AnyFunction
      ? "A function cannot be stored: JSON has none. Return plain data instead"
      : T extends AnyMap
        ? "A Map cannot be stored: JSON cannot represent it. Return Object.fromEntries(map) instead"
        : T extends ReadonlySet<unknown>
          ? "A Set cannot be stored: JSON cannot represent it. Return [...set] instead"
          : T extends PromiseLike<unknown>
            ? "A promise cannot be stored: JSON cannot represent it. Await it first"
            : T extends RegExp
              ? "A RegExp cannot be stored: JSON cannot represent it. Return String(value) instead"
              : 'An ArrayBuffer cannot be stored: JSON cannot represent it. Return Buffer.from(value).toString("base64") instead'

// -----------------------------------------------------------------------------
// The form of a value in storage
// -----------------------------------------------------------------------------

type Form<T> = T extends unknown ? FormAs<T>[Kind<T>] : never

type Kind<T> = [T] extends [None]
  ? "any"
  : T extends Primitive | IronflowError
    ? "same"
    : T extends bigint | symbol
      ? "lost"
      : T extends Error
        ? "object"
        : T extends HasToJson
          ? "json"
          : T extends Lost
            ? "lost"
            : T extends ReadonlyArray<unknown>
              ? "array"
              : T extends ArrayBufferView
                ? "bytes"
                : [keyof T] extends [never]
                  ? "same"
                  : "object"

interface FormAs<T> {
  any: Anything
  same: T
  lost: NotStorable<WhyLost<T>>
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON gives it a key
  json: T extends { toJSON(...args: any): infer Shown } ? Form<Shown> : never
  array: ArrayForm<T>
  /** The numbers by their index. A `Buffer` has `toJSON`, but other views of bytes do not. */
  bytes: { readonly [index: string]: number }
  object: ObjectAs<T>[WithMethods<Extract<T[keyof T], AnyFunction>>]
}

/**
 * Arrays and tuples. The form of an element is only computed when it is needed, since a type may be an array
 * of itself.
 */
type ArrayForm<T> =
  T extends ReadonlyArray<infer E>
    ? readonly E[] extends T
      ? readonly ElementForm<E>[]
      : E[] extends T
        ? ElementForm<E>[]
        : { [K in keyof T]: ElementForm<T[K]> }
    : never

type ElementForm<T> = ElementAs<T>[[T] extends [None] ? "any" : undefined extends T ? "gap" : "form"]

interface ElementAs<T> {
  any: Anything
  /** An element of an array. JSON has no `undefined`, which becomes `null`. */
  gap: unknown extends T ? T : Form<Exclude<T, undefined | void>> | null
  form: Form<T>
}

type WithMethods<F> = [F] extends [never]
  ? "data"
  : 0 extends 1 & F
    ? "methods"
    : [F] extends [None]
      ? "any"
      : "methods"

/**
 * The members of an object. Members under symbols keep their types: JSON ignores them, and in types they are mostly
 * brands, which do not exist at run time.
 */
interface ObjectAs<T> {
  any: Anything
  data: { [K in keyof T]: K extends symbol ? T[K] : Form<T[K]> }
  methods: {
    [K in keyof T as IsMethod<T[K]> extends true ? never : K]: K extends symbol
      ? T[K]
      : Form<Exclude<T[K], AnyFunction>>
  }
}

type IsMethod<T> = [Extract<T, AnyFunction>] extends [never]
  ? false
  : [Exclude<T, AnyFunction | undefined>] extends [never]
    ? true
    : false

// -----------------------------------------------------------------------------
// What can be stored
// -----------------------------------------------------------------------------

/**
 * A part of the type of a parameter that returns a `T`: it accepts anything if `T` can be stored, and nothing
 * if it cannot.
 */
export type StorableResult<T> = [T] extends [Storable<T>]
  ? unknown
  : RefusedAs<T>[[T] extends [None] ? "any" : [LostOf<T>] extends [never] ? "members" : "itself"]

interface RefusedAs<T> {
  any: Anything
  itself: NotStorable<WhyLost<LostOf<T>>>
  /** with this comparison of structures, the compiler reports the path of the member that cannot be stored */
  members: (...args: never) => Storable<T> | Promise<Storable<T>>
}

/** The type itself, in which {@link NotStorable} stands for what cannot be stored. */
export type Storable<T> = StorableAs<T>[[T] extends [never]
  ? "same"
  : [T] extends [None]
    ? "any"
    : unknown extends T
      ? "same"
      : [T] extends [Json | undefined | void]
        ? "same"
        : [LostOf<T>] extends [never]
          ? "members"
          : "lost"]

interface StorableAs<T> {
  any: Anything
  same: T
  lost: NotStorable<WhyLost<LostOf<T>>>
  members:
    StorableArray<Extract<T, ReadonlyArray<unknown>>> | StorableObject<Exclude<T, ReadonlyArray<unknown>>>
}

type StorableArray<T> =
  T extends ReadonlyArray<infer E>
    ? readonly E[] extends T
      ? readonly Storable<E>[]
      : E[] extends T
        ? Storable<E>[]
        : { [K in keyof T]: Storable<T[K]> }
    : never

type StorableObject<T> = {
  [K in keyof T]: K extends symbol
    ? T[K]
    : T extends HasToJson | Error | ArrayBufferView
      ? T[K]
      : StorableMember<T[K]>
}

/** A member of an object. Functions are accepted: they may be methods of a class, which are not stored. */
type StorableMember<T> = StorableAs<T>[[T] extends [never]
  ? "same"
  : [T] extends [None]
    ? "any"
    : unknown extends T
      ? "same"
      : [T] extends [Json | undefined | void | AnyFunction]
        ? "same"
        : [Exclude<LostOf<T>, AnyFunction>] extends [never]
          ? "members"
          : "lost"]
