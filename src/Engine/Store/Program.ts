/**
 * Programs: everything that the engine reads and writes, written once for all databases.
 *
 * A program is a generator. It yields statements, gets back their results, and returns a value. It may {@link refuse} only before it
 * has written anything, so that the other programs of its transaction need not be rolled back. It takes plain data and has a
 * name, so that it can run anywhere: at once on an open connection, within a transaction on a pooled connection, or in another
 * thread.
 */
import type { IronflowError } from "../../Errors.ts"
import type { DamagedKind } from "./Damage.ts"
import type { Transaction } from "./Transaction.ts"

/** What a column holds. */
export type Value = null | number | bigint | string | Uint8Array

export type Row = Record<string, Value>

/**
 * A named statement. `@sound(kind, column)` in its text stands for the condition that leaves out damaged rows; for `kind` see
 * {@link DamagedKind}. The condition is empty as long as nothing is damaged.
 */
export interface Statement {
  readonly name: string
  readonly text: string
  /** Whether `text` has an `@sound`. */
  readonly isSound: boolean
  /** Why the statement may scan a whole table, although tables grow. */
  readonly scans?: string
  /** The text for Postgres, where it differs from `text`: see `Postgres/Dialect.ts`. */
  readonly postgres?: string
}

const statements = new Map<string, Statement>()

/**
 * Makes a statement. `name` must be unique in the engine. `scans` says why the statement may scan a whole table, although tables
 * grow. `postgres` is the text for Postgres, where no text works on both databases.
 */
export const statement = (
  name: string,
  text: string,
  options: Pick<Statement, "scans" | "postgres"> = {}
): Statement => {
  if (statements.has(name)) throw new Error(`There are two statements named "${name}"`)
  const added: Statement = { name, text, isSound: text.includes("@sound("), ...options }
  statements.set(name, added)
  return added
}

/**
 * A statement whose text is composed at run time, in few variants. The same text gives the same statement. All variants share
 * `name`.
 */
export const variant = (name: string, text: string): Statement => {
  const known = variants.get(text)
  if (known !== undefined) return known
  const added: Statement = { name, text, isSound: text.includes("@sound(") }
  variants.set(text, added)
  return added
}

const variants = new Map<string, Statement>()

/** All statements of the loaded modules, without variants. */
export const allStatements = (): Iterable<Statement> => statements.values()

/**
 * A query of a program. `get` reads the first row, `all` reads all rows. `write` has no result, so it may be deferred and merged.
 * `affected` writes and counts the rows. `affectedAssumingOne` does the same where the program is certain that there is exactly one
 * row. `insert` inserts a row and returns its key. `visit` passes the rows to a function, one by one.
 *
 * If a driver answers at once, the query asks it through {@link answerAtOnce} and is not yielded. This saves the time that each open
 * generator takes to suspend.
 */
export class Query<A = unknown> implements Iterator<Query, A, unknown> {
  readonly kind: "get" | "all" | "write" | "affected" | "affectedAssumingOne" | "insert" | "visit"
  readonly statement: Statement
  readonly values: ReadonlyArray<Value>
  /** For `visit`: called with each row, as an array of its columns. Returns `false` to stop. */
  readonly visitor: ((row: ReadonlyArray<Value>) => boolean | void) | undefined
  // A query is its own iterator result, which saves an object: every run makes about ten queries.
  done = false
  value: unknown = undefined
  wasYielded = false

  constructor(
    kind: Query["kind"],
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

  /** Throws the error of the statement within the program. */
  throw(error: unknown): never {
    throw error
  }

  next(result?: unknown): IteratorResult<Query, A> {
    if (answerAtOnce !== undefined) {
      this.done = true
      this.value = answerAtOnce(this)
    } else if (this.wasYielded) {
      this.done = true
      this.value = result
    } else {
      this.wasYielded = true
      this.value = this
    }
    return this as IteratorResult<Query, A>
  }
}

/** Answers a query at once; `undefined` while the program runs with a driver that cannot. */
let answerAtOnce: ((query: Query) => unknown) | undefined

/** Runs a program; `answer` answers each query at once. */
export const runAtOnce = <A>(program: Program<A, unknown>, answer: (query: Query) => unknown): A => {
  const outerAnswer = answerAtOnce
  answerAtOnce = answer
  try {
    const { done, value } = program[Symbol.iterator]().next()
    if (done !== true) throw new Error("A program asked something and was not answered at once")
    return value
  } finally {
    answerAtOnce = outerAnswer
  }
}

/** A program: it yields statements, gets their results, and ends with a value or a refusal `E`. */
export type Program<A, E = never> = Iterable<Query | Refuse<E>, A, unknown>

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

/** A refusal, as the runner of a program gets it. */
export class Refused<E = unknown> {
  readonly error: E

  constructor(error: E) {
    this.error = error
  }
}

/**
 * Ends a program with an error for its caller: `return yield* refuse(error)`. The program must not have written anything before
 * that.
 */
export const refuse = <E extends IronflowError>(error: E): Program<never, E> => new Refuse(error)

/** What a program yields: queries, and each of its possible refusals. */
type Yielded = Query | Refuse<unknown>

type RefusedWith<Y> = Y extends Refuse<infer E> ? E : never

/** Runs a program, and returns its refusal as a value. */
export function* attempt<A, Y extends Yielded>(
  program: Iterable<Y, A, unknown>
): Program<A | RefusedWith<Y>> {
  try {
    // the refusal is caught here
    return yield* program as Program<A>
  } catch (error) {
    if (error instanceof Refused) return error.error as RefusedWith<Y>
    throw error
  }
}

/** The first row that a statement finds. */
export const get = (statement: Statement, ...values: ReadonlyArray<Value>): Program<Row | undefined> =>
  new Query("get", statement, values)

/** The rows that a statement finds. */
export const all = (statement: Statement, ...values: ReadonlyArray<Value>): Program<ReadonlyArray<Row>> =>
  new Query("all", statement, values)

/** Runs a statement without a result. It runs before the next statement that could see its effect, or before the commit. */
export const write = (statement: Statement, ...values: ReadonlyArray<Value>): Program<void> =>
  new Query("write", statement, values)

/** Runs a statement. Returns how many rows it changed. */
export const affected = (statement: Statement, ...values: ReadonlyArray<Value>): Program<number> =>
  new Query("affected", statement, values)

/**
 * As {@link affected}, for a row that must exist as far as the program knows: any count other than 1 is a fault. A driver may
 * answer 1 before it knows the count. If that was wrong, the driver repeats the transaction, and this time waits for each count.
 */
export const affectedAssumingOne = (statement: Statement, ...values: ReadonlyArray<Value>): Program<number> =>
  new Query("affectedAssumingOne", statement, values)

/** Inserts a row. Returns its integer key. */
export const insert = (statement: Statement, ...values: ReadonlyArray<Value>): Program<number> =>
  new Query("insert", statement, values)

/**
 * Visits rows one by one, each as an array of its columns, until `visitor` returns `false`. It is for pages of thousands of rows,
 * where an object for each row takes twice as long.
 */
export const visit = (
  statement: Statement,
  values: ReadonlyArray<Value>,
  visitor: (row: ReadonlyArray<Value>) => boolean | void
): Program<void> => new Query("visit", statement, values, visitor)

/** Runs a program for each item of a list, in order. Returns the results. */
export function* forEach<A, B, Y extends Yielded>(
  list: Iterable<A>,
  run: (item: A, index: number) => Iterable<Y, B, unknown>
): Iterable<Y, Array<B>, unknown> {
  const results: Array<B> = []
  let index = 0
  for (const item of list) results.push(yield* run(item, index++))
  return results
}

/**
 * Runs the work on one of many rows. An error is blamed on that row. After the rollback, the row is noted as damaged, and the
 * transaction is repeated without the row. The row cannot simply be skipped, because a damaged page spoils the transaction that
 * reads it.
 */
export function* isolateRow<A, Y extends Yielded>(
  tx: Transaction,
  kind: DamagedKind,
  key: number,
  program: Iterable<Y, A, unknown>
): Iterable<Y, A, unknown> {
  try {
    return yield* program
  } catch (error) {
    if (error instanceof Refused) throw error
    tx.blame({ error, kind, keys: { known: key } })
    throw error
  }
}

/**
 * Reads many rows. `keys` is a query that lists the keys of these rows, and reads only an index. An error is blamed on the listed
 * rows that turn out to be damaged.
 */
export function* allIsolatingDamage(
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
  /** The environment that the program works in; absent for a program across all environments. */
  readonly environment?: string
  /**
   * Whether caches may hold back writes while the program runs. Only for a program that does not query the tables of these writes,
   * or that first makes the caches write.
   */
  readonly allowsHeldWrites: boolean
  /** The intended action, for error messages: `store secret "API_KEY"`. */
  readonly what: () => string
  readonly run: (tx: Transaction) => Program<A, E>
}

/** A named program: makes a call from its arguments. */
export interface NamedProgram<Args extends ReadonlyArray<unknown>, A, E> {
  (...args: Args): Call<A, E>
  /** The program itself, for use within another program. */
  readonly in: (tx: Transaction, ...args: Args) => Program<A, E>
}

/** The first argument of a program that works in one environment. */
type EnvironmentArgument = string | { readonly environment: string }

/**
 * The part of a type that cannot be sent to another thread: a function or a class instance. `never` when there is no such part. The
 * depth is limited, because a type may contain itself.
 */
type UnsendablePart<A, Depth extends ReadonlyArray<unknown> = []> = A extends
  Uint8Array | IronflowError | string | number | bigint | boolean | null | undefined | void
  ? never
  : Depth["length"] extends 7
    ? never
    : A extends (...args: never) => unknown
      ? "a function"
      : A extends ReadonlyMap<infer K, infer V>
        ? UnsendablePart<K | V, [...Depth, 0]>
        : A extends ReadonlySet<infer V> | ReadonlyArray<infer V>
          ? UnsendablePart<V, [...Depth, 0]>
          : A extends object
            ? { [K in keyof A]-?: [UnsendablePart<A[K], [...Depth, 0]>] extends [never] ? never : K }[keyof A]
            : never

/**
 * The type of the name of a program with plain arguments and results. For other programs it is a message that says which part is
 * not plain.
 */
export type PlainName<Args, A> = [UnsendablePart<Args> | UnsendablePart<A>] extends [never]
  ? string
  : { readonly "takes or gives what no other thread can have": UnsendablePart<Args> | UnsendablePart<A> }

const programs = new Map<string, unknown>()

/** Finds a program of the loaded modules by its name, for a driver that gets calls as names and arguments. */
export const findProgram = (
  name: string
): ((...args: ReadonlyArray<unknown>) => Call<unknown, unknown>) | undefined =>
  // safe cast: callers pass the arguments of a call of this program
  programs.get(name) as ((...args: ReadonlyArray<unknown>) => Call<unknown, unknown>) | undefined

export interface ProgramOptions {
  /** {@link Call.allowsHeldWrites}: `false` by default. */
  readonly allowsHeldWrites?: boolean
}

const define = <Args extends ReadonlyArray<unknown>, A, Y extends Yielded>(
  name: string,
  run: (tx: Transaction, ...args: Args) => Iterable<Y, A, unknown>,
  what: (...args: Args) => string,
  environmentOf: (args: Args) => string | undefined,
  { allowsHeldWrites = false }: ProgramOptions = {}
): NamedProgram<Args, A, RefusedWith<Y>> => {
  if (programs.has(name)) throw new Error(`There are two programs named "${name}"`)
  // safe cast: a program yields its refusals, so `Y` contains their types
  const program = run as (tx: Transaction, ...args: Args) => Program<A, RefusedWith<Y>>
  const call = (...args: Args): Call<A, RefusedWith<Y>> => {
    const environment = environmentOf(args)
    return {
      name,
      args,
      ...(environment === undefined ? {} : { environment }),
      allowsHeldWrites,
      what: () => what(...args),
      run: (tx) => program(tx, ...args)
    }
  }
  programs.set(name, call)
  return Object.assign(call, { in: program })
}

/**
 * Defines a program that works in one environment. The first argument of the program is the environment, or an object with the
 * field `environment`. `name` must be unique in the engine. `what` says for messages what the program was to do.
 */
export const inEnvironment = <
  Args extends readonly [EnvironmentArgument, ...ReadonlyArray<unknown>],
  A,
  Y extends Yielded
>(
  name: PlainName<Args, A>,
  run: (tx: Transaction, ...args: Args) => Iterable<Y, A, unknown>,
  what: (...args: Args) => string,
  options?: ProgramOptions
): NamedProgram<Args, A, RefusedWith<Y>> =>
  define(
    name as string,
    run,
    what,
    ([first]) => (typeof first === "string" ? first : first.environment),
    options
  )

/** Defines a program that works across all environments. */
export const acrossEnvironments = <Args extends ReadonlyArray<unknown>, A, Y extends Yielded>(
  name: PlainName<Args, A>,
  run: (tx: Transaction, ...args: Args) => Iterable<Y, A, unknown>,
  what: (...args: Args) => string,
  options?: ProgramOptions
): NamedProgram<Args, A, RefusedWith<Y>> => define(name as string, run, what, () => undefined, options)
