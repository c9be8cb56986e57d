/**
 * Programs: all that the engine reads and writes, told once for every database.
 *
 * A program is a generator. It yields statements, gets back what they found, and returns a value. To refuse, it returns an
 * `IronflowError`, and has written nothing by then: nothing is thrown, so that refusing one costs the others of its
 * transaction nothing. It takes plain data and has a name, so that whoever runs it may be elsewhere: a driver runs it at once
 * on an open connection, within a transaction on a pooled one, or in a thread of its own.
 */
import type { IronflowError } from "../../Errors.ts"
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

/** Every statement there is, of the modules that were loaded. */
export const allStatements = (): Iterable<Statement> => statements.values()

/** What a program asks of the database that it runs on. */
export interface Ask {
  /**
   * `get` the first row, `all` rows; `write` without an answer, so that it may be put off and done together with others;
   * `count` the rows that are changed; `insert` a row and give its key.
   */
  readonly kind: "get" | "all" | "write" | "count" | "insert"
  readonly statement: Statement
  readonly values: ReadonlyArray<Value>
}

/** What runs: it gives statements, is given what they found, and ends with a value. */
export type Program<A> = Generator<Ask, A, unknown>

/** The first row that a statement finds. */
export function* get(statement: Statement, ...values: ReadonlyArray<Value>): Program<Row | undefined> {
  return (yield { kind: "get", statement, values }) as Row | undefined
}

/** The rows that a statement finds. */
export function* all(statement: Statement, ...values: ReadonlyArray<Value>): Program<ReadonlyArray<Row>> {
  return (yield { kind: "all", statement, values }) as ReadonlyArray<Row>
}

/** Runs a statement whose count nobody asks for. It is done before the next one that could see it, or the commit. */
export function* write(statement: Statement, ...values: ReadonlyArray<Value>): Program<void> {
  yield { kind: "write", statement, values }
}

/** Runs a statement, and says how many rows it has changed. */
export function* count(statement: Statement, ...values: ReadonlyArray<Value>): Program<number> {
  return (yield { kind: "count", statement, values }) as number
}

/** Inserts a row and gives its integer key. */
export function* insert(statement: Statement, ...values: ReadonlyArray<Value>): Program<number> {
  return (yield { kind: "insert", statement, values }) as number
}

/** A program with its arguments: what `Store.write` and `Store.read` take. */
export interface Call<A> {
  readonly name: string
  readonly args: ReadonlyArray<unknown>
  /** The environment that it works in; `undefined` when it is for all of them. No program works in two. */
  readonly environment: string | undefined
  /** What is to be done, for the message of an error: `store secret "API_KEY"`. */
  readonly what: () => string
  readonly run: (tx: Transaction) => Program<A>
}

/** A program by name. Called with its arguments it is ready to be given to the store; `in` is for other programs. */
export interface Definition<Args extends ReadonlyArray<unknown>, A> {
  (...args: Args): Call<A>
  /** Runs it as part of another program. */
  readonly in: (tx: Transaction, ...args: Args) => Program<A>
}

/** Makes a call of the program with a name: what a driver elsewhere is told. */
type Caller = (args: never) => Call<unknown>

const programs = new Map<string, Caller>()

/** The call of a program by its name, for a driver elsewhere; `undefined` when there is none. */
export const callByName = (name: string, args: ReadonlyArray<unknown>): Call<unknown> | undefined =>
  // whoever made the call was checked
  programs.get(name)?.(args as never)

const define = <Args extends ReadonlyArray<unknown>, A>(
  name: string,
  environmentOf: (args: Args) => string | undefined,
  run: (tx: Transaction, ...args: Args) => Program<A>,
  what: (...args: Args) => string
): Definition<Args, A> => {
  if (programs.has(name)) throw new Error(`There are two programs named "${name}"`)
  const call = (args: Args): Call<A> => ({
    name,
    args,
    environment: environmentOf(args),
    what: () => what(...args),
    run: (tx) => run(tx, ...args)
  })
  programs.set(name, call)
  return Object.assign((...args: Args) => call(args), { in: run })
}

/**
 * Defines a program that works in one environment, the first of its arguments. `name` is its own in the whole engine; `what`
 * says what it was to do, for messages.
 */
export const inEnvironment = <Args extends readonly [environment: string, ...ReadonlyArray<unknown>], A>(
  name: string,
  run: (tx: Transaction, ...args: Args) => Program<A>,
  what: (...args: Args) => string
): Definition<Args, A> => define(name, (args) => args[0], run, what)

/** Defines a program for all environments. */
export const global = <Args extends ReadonlyArray<unknown>, A>(
  name: string,
  run: (tx: Transaction, ...args: Args) => Program<A>,
  what: (...args: Args) => string
): Definition<Args, A> => define(name, () => undefined, run, what)

/** What a program returns when it does not refuse. */
export type Done<A> = Exclude<A, IronflowError>

/** What a program refuses with. */
export type Refusal<A> = Extract<A, IronflowError>
