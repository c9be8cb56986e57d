/**
 * Programs: all that the engine reads and writes, told once for every database.
 *
 * A program is a generator. It yields statements, gets back what they found, and returns a value. It may {@link refuse}, which it
 * does before it has written anything, so that refusing one costs the others of its transaction nothing. It takes plain data and
 * has a name, so that whoever runs it may be elsewhere: a driver runs it at once on an open connection, within a transaction on
 * a pooled one, or in a thread of its own.
 */
import type { IronflowError } from "../../Errors.ts"
import type { DamagedKind } from "./Damage.ts"
import type { Transaction } from "./Transaction.ts"

/** What a column holds. */
export type Value = null | number | bigint | string | Uint8Array

export type Row = Record<string, Value>

/**
 * A statement with a name of its own. `@sound(kind, column)` in its text stands for the condition that leaves out what is
 * known to be damaged, `kind` being that of {@link Damage}: it is empty as long as nothing is.
 */
export interface Statement {
  readonly name: string
  readonly text: string
  /** Whether its text has an `@sound`. */
  readonly isSound: boolean
  /** Why it may read a table that grows from one end to the other. */
  readonly scans?: string
  /** What it is on Postgres, where that is not `text`: see `Postgres/Dialect.ts`. */
  readonly postgres?: string
}

const statements = new Map<string, Statement>()

/**
 * Makes a statement. `name` is its own in the whole engine; `scans` says why it may read all of a table that grows, and `postgres`
 * is its text on Postgres where no text does on both.
 */
export const statement = (
  name: string,
  text: string,
  options: Pick<Statement, "scans" | "postgres"> = {}
): Statement => {
  if (statements.has(name)) throw new Error(`There are two statements named "${name}"`)
  const made: Statement = { name, text, isSound: text.includes("@sound("), ...options }
  statements.set(name, made)
  return made
}

/**
 * A statement whose text is put together, out of few parts so that there are few of them: the same one for the same text.
 * `name` is that of all of them.
 */
export const variant = (name: string, text: string): Statement => {
  const known = variants.get(text)
  if (known !== undefined) return known
  const made: Statement = { name, text, isSound: text.includes("@sound(") }
  variants.set(text, made)
  return made
}

const variants = new Map<string, Statement>()

/** Every statement there is, of the modules that were loaded. */
export const allStatements = (): Iterable<Statement> => statements.values()

/**
 * What a program asks of the database that it runs on: `get` the first row, `all` rows; `write` without an answer, so that it
 * may be put off and done together with others; `affected` to write and count the rows; `believed` the same where one row is
 * certain; `insert` a row and give its key; `visit` rows one by one.
 *
 * It is yielded, unless the driver answers at once: then nothing is suspended, which would cost as much as each of the
 * generators that are open.
 */
export class Ask<A = unknown> implements Iterator<Ask, A, unknown> {
  readonly kind: "get" | "all" | "write" | "affected" | "believed" | "insert" | "visit"
  readonly statement: Statement
  readonly values: ReadonlyArray<Value>
  /** For `visit`: is given a row as its columns; `false` when it wants no more. */
  readonly visitor: ((row: ReadonlyArray<Value>) => boolean | void) | undefined
  // It is its own result: every run asks some ten times.
  done = false
  value: unknown = undefined
  wasAsked = false

  constructor(
    kind: Ask["kind"],
    statement: Statement,
    values: ReadonlyArray<Value>,
    visitor?: (row: ReadonlyArray<Value>) => boolean | void
  ) {
    this.kind = kind
    this.statement = statement
    this.values = values
    this.visitor = visitor
  }

  [Symbol.iterator](): this {
    return this
  }

  /** What was asked has failed: it is thrown where it was asked. */
  throw(error: unknown): never {
    throw error
  }

  next(found?: unknown): IteratorResult<Ask, A> {
    if (answerAtOnce !== undefined) {
      this.done = true
      this.value = answerAtOnce(this)
    } else if (this.wasAsked) {
      this.done = true
      this.value = found
    } else {
      this.wasAsked = true
      this.value = this
    }
    return this as IteratorResult<Ask, A>
  }
}

/** The driver that answers at once what is asked now, if it is one. */
let answerAtOnce: ((ask: Ask) => unknown) | undefined

/** Runs a program whose driver has every answer at once. */
export const runAtOnce = <A>(program: Program<A, unknown>, answer: (ask: Ask) => unknown): A => {
  const before = answerAtOnce
  answerAtOnce = answer
  try {
    const { done, value } = program[Symbol.iterator]().next()
    if (done !== true) throw new Error("A program asked something and was not answered at once")
    return value
  } finally {
    answerAtOnce = before
  }
}

/** What runs: it gives statements, is given what they found, and ends with a value, or refuses with an `E`. */
export type Program<A, E = never> = Iterable<Ask | Refuse<E>, A, unknown>

/** The end of a program that refuses. */
class Refuse<E> implements Iterator<Refuse<E>, never, unknown> {
  readonly error: E

  constructor(error: E) {
    this.error = error
  }

  [Symbol.iterator](): this {
    return this
  }

  next(): never {
    throw new Refused(this.error)
  }
}

/** How a refusal comes to whoever runs the program. */
export class Refused<E = unknown> {
  readonly error: E

  constructor(error: E) {
    this.error = error
  }
}

/** Ends a program with an error for its caller: `return yield* refuse(error)`. Nothing may have been written by then. */
export const refuse = <E extends IronflowError>(error: E): Program<never, E> => new Refuse(error)

/** What a program yields; each thing that it may refuse with is one of them. */
type Step = Ask | Refuse<unknown>

type RefusedWith<Y> = Y extends Refuse<infer E> ? E : never

/** A program that goes on when another refuses, and has its error as a value. */
export function* attempt<A, Y extends Step>(program: Iterable<Y, A, unknown>): Program<A | RefusedWith<Y>> {
  try {
    // what it refuses with is caught here
    return yield* program as Program<A>
  } catch (error) {
    if (error instanceof Refused) return error.error as RefusedWith<Y>
    throw error
  }
}

/** The first row that a statement finds. */
export const get = (statement: Statement, ...values: ReadonlyArray<Value>): Program<Row | undefined> =>
  new Ask("get", statement, values)

/** The rows that a statement finds. */
export const all = (statement: Statement, ...values: ReadonlyArray<Value>): Program<ReadonlyArray<Row>> =>
  new Ask("all", statement, values)

/** Runs a statement whose count nobody asks for. It is done before the next one that could see it, or the commit. */
export const write = (statement: Statement, ...values: ReadonlyArray<Value>): Program<void> =>
  new Ask("write", statement, values)

/** Runs a statement, and says how many rows it has changed. */
export const affected = (statement: Statement, ...values: ReadonlyArray<Value>): Program<number> =>
  new Ask("affected", statement, values)

/**
 * As {@link affected}, where the row that it changes is there for all that the program knows: that another number comes back is a
 * fault. A driver may answer 1 before it has asked, and does the transaction again, without believing anything, when that was wrong.
 */
export const believed = (statement: Statement, ...values: ReadonlyArray<Value>): Program<number> =>
  new Ask("believed", statement, values)

/** Inserts a row and gives its integer key. */
export const insert = (statement: Statement, ...values: ReadonlyArray<Value>): Program<number> =>
  new Ask("insert", statement, values)

/**
 * Looks at rows one after the other, each as its columns, until `visitor` returns `false`. For pages of thousands of rows: an
 * object for each takes twice as long.
 */
export const visit = (
  statement: Statement,
  values: ReadonlyArray<Value>,
  visitor: (row: ReadonlyArray<Value>) => boolean | void
): Program<void> => new Ask("visit", statement, values, visitor)

/** Runs a program for each of a list, in its order, and gives what they returned. */
export function* forEach<A, B, Y extends Step>(
  list: Iterable<A>,
  run: (item: A, index: number) => Iterable<Y, B, unknown>
): Iterable<Y, Array<B>, unknown> {
  const results: Array<B> = []
  let index = 0
  for (const item of list) results.push(yield* run(item, index++))
  return results
}

/**
 * Does what concerns one of many: an error is put down to that one, and the transaction is done again without it. A page
 * that is damaged spoils the transaction in which it is read, so that nothing can be put right before it is rolled back.
 */
export function* apart<A, Y extends Step>(
  tx: Transaction,
  kind: DamagedKind,
  key: number,
  program: Iterable<Y, A, unknown>
): Iterable<Y, A, unknown> {
  try {
    return yield* program
  } catch (error) {
    if (error instanceof Refused) throw error
    tx.blame({ error, kind, keys: { certain: key } })
    throw error
  }
}

/** Reads a list over many: an error is put down to those among `keys`, a query that reads an index alone, that are damaged. */
export function* among(
  tx: Transaction,
  kind: DamagedKind,
  keys: readonly [Statement, ...ReadonlyArray<Value>],
  statement: Statement,
  ...values: ReadonlyArray<Value>
): Program<ReadonlyArray<Row>> {
  try {
    return yield* all(statement, ...values)
  } catch (error) {
    tx.blame({ error, kind, keys: { statement: keys[0], values: keys.slice(1) as ReadonlyArray<Value> } })
    throw error
  }
}

/** A program with its arguments: what `Store.write` and `Store.read` take. */
export interface Call<A, E = never> {
  readonly name: string
  readonly args: ReadonlyArray<unknown>
  /** The environment that it works in; absent for one that works across all of them. */
  readonly environment?: string
  /** What memories hold back may stay so while it runs: it does not look for it, or writes it itself. */
  readonly leavesHeld: boolean
  /** What is to be done, for the message of an error: `store secret "API_KEY"`. */
  readonly what: () => string
  readonly run: (tx: Transaction) => Program<A, E>
}

/** A program that has a name: makes a call of its arguments. */
export interface Named<Args extends ReadonlyArray<unknown>, A, E> {
  (...args: Args): Call<A, E>
  /** The program as a part of another. */
  readonly in: (tx: Transaction, ...args: Args) => Program<A, E>
}

/** The first of the arguments of a program that works in one environment. */
type Placed = string | { readonly environment: string }

/**
 * Where a type has something that only the same thread can have: a function, or an instance of a class. It is followed some
 * levels deep, which ends at types that contain themselves.
 */
type Leak<A, Depth extends ReadonlyArray<unknown> = []> = A extends
  Uint8Array | IronflowError | string | number | bigint | boolean | null | undefined | void
  ? never
  : Depth["length"] extends 7
    ? never
    : A extends (...args: never) => unknown
      ? "a function"
      : A extends ReadonlyMap<infer K, infer V>
        ? Leak<K | V, [...Depth, 0]>
        : A extends ReadonlySet<infer V> | ReadonlyArray<infer V>
          ? Leak<V, [...Depth, 0]>
          : A extends object
            ? { [K in keyof A]-?: [Leak<A[K], [...Depth, 0]>] extends [never] ? never : K }[keyof A]
            : never

/** The name of a program that takes and gives plain data; of another one it says where it does not. */
export type PlainName<Args, A> = [Leak<Args> | Leak<A>] extends [never]
  ? string
  : { readonly "takes or gives what no other thread can have": Leak<Args> | Leak<A> }

const programs = new Map<string, unknown>()

/** The program of a name, of the modules that were loaded: for a driver that is told of a call by name and arguments. */
export const findProgram = (
  name: string
): ((...args: ReadonlyArray<unknown>) => Call<unknown, unknown>) | undefined =>
  // the arguments are those of a call that was made of this program
  programs.get(name) as ((...args: ReadonlyArray<unknown>) => Call<unknown, unknown>) | undefined

export interface ProgramOptions {
  /** {@link Call.leavesHeld}: false unless given. */
  readonly leavesHeld?: boolean
}

const define = <Args extends ReadonlyArray<unknown>, A, Y extends Step>(
  name: string,
  run: (tx: Transaction, ...args: Args) => Iterable<Y, A, unknown>,
  what: (...args: Args) => string,
  environmentOf: (args: Args) => string | undefined,
  { leavesHeld = false }: ProgramOptions = {}
): Named<Args, A, RefusedWith<Y>> => {
  if (programs.has(name)) throw new Error(`There are two programs named "${name}"`)
  // what it yields is what its refusals are told apart by
  const program = run as (tx: Transaction, ...args: Args) => Program<A, RefusedWith<Y>>
  const call = (...args: Args): Call<A, RefusedWith<Y>> => {
    const environment = environmentOf(args)
    return {
      name,
      args,
      ...(environment === undefined ? {} : { environment }),
      leavesHeld,
      what: () => what(...args),
      run: (tx) => program(tx, ...args)
    }
  }
  programs.set(name, call)
  return Object.assign(call, { in: program })
}

/**
 * Defines a program that works in one environment, which the first of its arguments is or has. `name` is its own in the whole
 * engine; `what` says what it was to do, for messages.
 */
export const inEnvironment = <Args extends readonly [Placed, ...ReadonlyArray<unknown>], A, Y extends Step>(
  name: PlainName<Args, A>,
  run: (tx: Transaction, ...args: Args) => Iterable<Y, A, unknown>,
  what: (...args: Args) => string,
  options?: ProgramOptions
): Named<Args, A, RefusedWith<Y>> =>
  define(
    name as string,
    run,
    what,
    ([first]) => (typeof first === "string" ? first : first.environment),
    options
  )

/** Defines a program that works across all environments. */
export const acrossEnvironments = <Args extends ReadonlyArray<unknown>, A, Y extends Step>(
  name: PlainName<Args, A>,
  run: (tx: Transaction, ...args: Args) => Iterable<Y, A, unknown>,
  what: (...args: Args) => string,
  options?: ProgramOptions
): Named<Args, A, RefusedWith<Y>> => define(name as string, run, what, () => undefined, options)
