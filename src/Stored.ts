/**
 * What is left of a value's type once the value has been stored.
 *
 * A result of a step is kept as JSON, and the handler gets what was kept, in the first execution as in every replay. The type
 * says so: {@link Stored} is the type that comes back, and {@link StorableResult} keeps from `step.run` what JSON cannot carry.
 * Both follow `Result.ts` and `Json.ts`, which do the work.
 *
 * What depends on a type parameter that is not known yet is looked up in tables (`StoredAs<T>[...]`) with a row `any` that no
 * type that is known ever selects: so the result of a step fits where a `T` is wanted, in a generic helper that returns
 * `Promise<T>`, and is exact where `T` is known.
 */
import type { IronflowError } from "./Errors.ts"

declare const why: unique symbol

/** Stands for a value that cannot be stored. `Why` says what to do. */
export interface NotStorable<Why extends string> {
  /** What to return instead, in words; there is no such member when a program runs. */
  readonly [why]: Why
}

/**
 * The type of a value after it has been stored as JSON and read again:
 *
 * - an object with `toJSON` is what that returns, so a `Date` is a string and a `Buffer` is `{ type, data }`;
 * - an instance of a class has its fields and not its methods. Its getters stay in the type, since the compiler takes them for fields, and
 *   a function that an object has itself is gone from the type, since the compiler takes it for a method, and fails the step;
 * - `NaN`, infinities and invalid dates, which have no types of their own, come back as `null`;
 * - `undefined` in an array is `null`;
 * - errors come back as errors with the fields that they had; those of this package as their own classes.
 *
 * What JSON leaves alone keeps its type: tuples, `readonly`, optional members, brands, `any` and `unknown` among it.
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

/** No value has this type: to extend it is only possible for `any`, and for what is not known yet. */
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

/** What is known at first sight to come back as it went. */
type Json =
  string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json | undefined }

interface HasToJson {
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON gives it a key
  toJSON(...args: any): unknown
}

/** What is refused when it is met, unless it has `toJSON`, which `bigint` and `symbol` cannot have. */
type Lost = AnyFunction | AnyMap | ReadonlySet<unknown> | PromiseLike<unknown> | RegExp | ArrayBuffer

/** Of a union, those that are refused. */
type LostOf<T> = T extends bigint | symbol ? T : T extends HasToJson ? never : T extends Lost ? T : never

/** What a user reads in the compiler's error. */
type WhyLost<T> = T extends bigint
  ? "A bigint cannot be stored: JSON has none. Return String(value) instead"
  : T extends symbol
    ? "A symbol cannot be stored: JSON has none. Return plain data instead"
    : T extends AnyFunction
      ? "A function cannot be stored: JSON has none. Return plain data instead"
      : T extends AnyMap
        ? "A Map cannot be stored: JSON has nothing of it. Return Object.fromEntries(map) instead"
        : T extends ReadonlySet<unknown>
          ? "A Set cannot be stored: JSON has nothing of it. Return [...set] instead"
          : T extends PromiseLike<unknown>
            ? "A promise cannot be stored: JSON has nothing of it. Await it first"
            : T extends RegExp
              ? "A RegExp cannot be stored: JSON has nothing of it. Return String(value) instead"
              : 'An ArrayBuffer cannot be stored: JSON has nothing of it. Return Buffer.from(value).toString("base64") instead'

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
  /** The numbers by their places: a `Buffer` has `toJSON`, and other views have not. */
  bytes: { readonly [index: string]: number }
  object: ObjectAs<T>[WithMethods<Extract<T[keyof T], AnyFunction>>]
}

/** Arrays and tuples. Written so that the elements are looked at late, since a type may be an array of itself. */
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
  /** JSON has no `undefined` to keep a place in an array. */
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

/** Members under symbols, which JSON does not see, are those of brands, which are not there in the first place. */
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

/** A part of the parameter's type that returns a `T`: anything fits when the `T` can be stored, else nothing does. */
export type StorableResult<T> = [T] extends [Storable<T>]
  ? unknown
  : RefusedAs<T>[[T] extends [None] ? "any" : [LostOf<T>] extends [never] ? "members" : "itself"]

interface RefusedAs<T> {
  any: Anything
  itself: NotStorable<WhyLost<LostOf<T>>>
  /** The compiler finds the way to the member by comparing. */
  members: (...args: never) => Storable<T> | Promise<Storable<T>>
}

/** The type itself, with {@link NotStorable} in the place of what cannot be stored. */
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

/** Functions among the members of an object are let pass: the methods of a class are not stored, and do no harm. */
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
