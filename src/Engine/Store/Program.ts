/**
 * Programs: all that the engine reads and writes, told once for every database.
 *
 * A program is a generator. It yields statements, gets back what they found, and returns a value. To refuse, it returns an
 * `IronflowError`, and has written nothing by then: nothing is thrown, so that refusing one costs the others of its
 * transaction nothing. It takes plain data and has a name, so that whoever runs it may be elsewhere: a driver runs it at once
 * on an open connection, within a transaction on a pooled one, or in a thread of its own.
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
}

const statements = new Map<string, Statement>()

/** Makes a statement. `name` is its own in the whole engine; `scans` says why it may read all of a table that grows. */
export const statement = (
  name: string,
  text: string,
  options: { readonly scans?: string } = {}
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
 * may be put off and done together with others; `affected` to write and count the rows; `insert` a row and give its key;
 * `visit` rows one by one.
 *
 * It is yielded, unless the driver answers at once: then nothing is suspended, which would cost as much as each of the
 * generators that are open.
 */
export class Ask<A = unknown> implements Iterator<Ask, A, unknown> {
  readonly kind: "get" | "all" | "write" | "affected" | "insert" | "visit"
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
export const runAtOnce = <A>(program: Program<A>, answer: (ask: Ask) => unknown): A => {
  const before = answerAtOnce
  answerAtOnce = answer
  try {
    const { done, value } = program[Symbol.iterator]().next()
    if (done !== true)
      throw new Error(`A program asked "${value.statement.name}" and was not answered at once`)
    return value
  } finally {
    answerAtOnce = before
  }
}

/** What runs: it gives statements, is given what they found, and ends with a value. */
export type Program<A> = Iterable<Ask, A, unknown>

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
export function* forEach<A, B>(
  list: Iterable<A>,
  run: (item: A, index: number) => Program<B>
): Program<Array<B>> {
  const results: Array<B> = []
  let index = 0
  for (const item of list) results.push(yield* run(item, index++))
  return results
}

/**
 * Does what concerns one of many: an error is put down to that one, and the transaction is done again without it. A page
 * that is damaged spoils the transaction in which it is read, so that nothing can be put right before it is rolled back.
 */
export function* apart<A>(tx: Transaction, kind: DamagedKind, key: number, program: Program<A>): Program<A> {
  try {
    return yield* program
  } catch (error) {
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
export interface Call<A> {
  readonly name: string
  readonly args: ReadonlyArray<unknown>
  /** The environment that it works in. No program works in two. */
  readonly environment: string
  /** What is to be done, for the message of an error: `store secret "API_KEY"`. */
  readonly what: () => string
  readonly run: (tx: Transaction) => Program<A>
}

const names = new Set<string>()

/**
 * Defines a program that works in one environment, the first of its arguments. `name` is its own in the whole engine; `what`
 * says what it was to do, for messages.
 */
export const inEnvironment = <Args extends readonly [environment: string, ...ReadonlyArray<unknown>], A>(
  name: string,
  run: (tx: Transaction, ...args: Args) => Program<A>,
  what: (...args: Args) => string
): ((...args: Args) => Call<A>) => {
  if (names.has(name)) throw new Error(`There are two programs named "${name}"`)
  names.add(name)
  return (...args) => ({
    name,
    args,
    environment: args[0],
    what: () => what(...args),
    run: (tx) => run(tx, ...args)
  })
}

/** What a program returns when it does not refuse. */
export type Done<A> = Exclude<A, IronflowError>

/** What a program refuses with. */
export type Refusal<A> = Extract<A, IronflowError>
