/** One connection, and the programs that run on it. */
import type { Client } from "pg"
import { withSharedBudget } from "../../../ExpressionBudget.ts"
import { eachCache, writesOf } from "../Cache.ts"
import { type Query, type Program, Refused, type Row, type Value } from "../Program.ts"
import { DeferredWrites } from "./DeferredWrites.ts"
import { type Prepared, translate, type Translated } from "./Dialect.ts"
import type { Read } from "./ExpectedReads.ts"
import { type Answer, type PipelineEntry, sendPipeline, skippedError, toSendable } from "./Pipeline.ts"
import type { PostgresTransaction } from "./PostgresTransaction.ts"

/** Counts of the traffic with Postgres, for tests and benches. */
export interface Traffic {
  statements: number
  /** How often the engine waited for an answer. */
  roundTrips: number
  commits: number
}

/**
 * Converts a value to the form in which it is sent. Times may have fractions of a millisecond: they are rounded up, so that
 * nothing is due early.
 */
const sendable = (value: Value): Value => {
  if (typeof value === "string" || value === null || Number.isSafeInteger(value)) return value
  if (typeof value !== "number") {
    if (typeof value === "bigint" || value instanceof Uint8Array) return value
    // the driver would send it as JSON
    throw new TypeError(`${typeof value} is not a type of value that can be stored`)
  }
  if (!(value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER)) {
    throw new RangeError(`${value} is not a number that can be stored`)
  }
  return Math.ceil(value)
}

interface Socket {
  readonly bytesRead: number
  readonly destroy: (error?: Error) => void
}

/** The socket of a connection. */
export const socketOf = (client: Client): Socket =>
  // the declared type of `Client` lacks `connection`
  (client as unknown as { readonly connection: { readonly stream: Socket } }).connection.stream

/** The server process of a connection, as told when it began. A pooler tells a number of its own. */
export const pidOf = (client: Client): number =>
  // the declared type lacks it
  (client as unknown as { readonly processID: number }).processID

export class Session {
  readonly client: Client
  readonly #socket: Socket
  readonly #traffic: Traffic
  readonly #waiting: Set<Session> | undefined
  /** Statements that go out with the next flush. */
  #unsent: Array<PipelineEntry> = []
  #isGoing = false
  /** How many answers are awaited. */
  #open = 0
  /** How many answers have arrived. */
  #answered = 0

  /** `waiting` is the set that this session is in while it waits for an answer. */
  constructor(client: Client, traffic: Traffic, waiting?: Set<Session>) {
    this.client = client
    this.#traffic = traffic
    this.#waiting = waiting
    this.#socket = socketOf(client)
  }

  /** Sends a statement. It goes out together with the others that are sent before the next wait. */
  send(
    statement: Prepared,
    values: ReadonlyArray<Value | ReadonlyArray<Value>> = [],
    asArrays = false
  ): Promise<Answer> {
    this.#traffic.statements++
    const { name, text } = statement
    const sent = values.map((value) => toSendable(Array.isArray(value) ? value : sendable(value as Value)))
    return new Promise((succeed, fail) => {
      this.#unsent.push({ name, text, values: sent, asArrays, succeed, fail })
    })
  }

  /** Sends a statement whose answer is not awaited. `failed` is called when it fails. */
  put(
    statement: Prepared,
    values: ReadonlyArray<Value | ReadonlyArray<Value>> = [],
    failed: (error: unknown) => void = () => undefined
  ): void {
    this.send(statement, values).catch(failed)
  }

  /** Sends what is buffered, and waits for `answer`. */
  wait<A>(answer: Promise<A>): Promise<A> {
    // sends in a microtask, so that the statements of others in this turn go out together
    if (!this.#isGoing) {
      this.#isGoing = true
      this.#traffic.roundTrips++
      queueMicrotask(() => this.flush())
    }
    if (this.#waiting !== undefined) {
      if (this.#open++ === 0) this.#waiting.add(this)
      answer.then(this.#came, this.#came)
    }
    return answer
  }

  readonly #came = (): void => {
    this.#answered++
    if (--this.#open === 0) this.#waiting?.delete(this)
  }

  /** A number that grows with everything that is received. */
  get progress(): number {
    return this.#answered + this.#socket.bytesRead
  }

  /** The server process, as told when the connection began. */
  get pid(): number {
    return pidOf(this.client)
  }

  /** Ends the connection. Whatever waits on it fails. */
  break(): void {
    const message = "Postgres is not working on the statement, and no answer has come: the connection is dead"
    this.#socket.destroy(Object.assign(new Error(message), { code: "ETIMEDOUT" }))
  }

  flush(): void {
    this.#isGoing = false
    const entries = this.#unsent
    if (entries.length === 0) return
    this.#unsent = []
    sendPipeline(this.client, entries)
  }

  /** Forgets the statements that were not sent. They fail. */
  discard(): void {
    const entries = this.#unsent
    this.#unsent = []
    for (const { fail } of entries) fail(skippedError())
  }
}

const CREATE_ENVIRONMENT = {
  name: "environment",
  text: "INSERT INTO environments (key, name) VALUES ($1, $2)"
}

type Steps<A, E> = ReturnType<Program<A, E>[typeof Symbol.iterator]>
type Step<A, E> = IteratorResult<unknown, A | Refused<E>>

/** A started program. */
export interface Begun<A, E> {
  readonly steps: Steps<A, E>
  /** Its first query, or its end. */
  readonly step: Step<A, E>
}

/** Runs a program up to its first query. */
export const begin = <A, E>(program: Program<A, E>): Begun<A, E> => {
  const steps = program[Symbol.iterator]()
  return { steps, step: next<A, E>(steps, undefined) }
}

/**
 * Passes the result to the program and runs it to its next query, or throws the error in the program, which may say where it
 * comes from.
 */
const next = <A, E>(
  steps: Steps<A, E>,
  found: unknown,
  failure?: { readonly error: unknown }
): Step<A, E> => {
  try {
    if (failure === undefined) return withSharedBudget(() => steps.next(found))
    if (steps.throw === undefined) throw failure.error
    return steps.throw(failure.error)
  } catch (error) {
    // the types of programs name all their refusals
    if (error instanceof Refused) return { done: true, value: error as Refused<E> }
    throw error
  }
}

const question = ({ text }: Translated, values: ReadonlyArray<Value>): string =>
  `${text} ${JSON.stringify(values)}`

/** Runs programs on a session, in its open transaction if there is one. Keeps the single rows that they have read. */
export class Runner {
  readonly #session: Session
  readonly #tx: PostgresTransaction
  /**
   * Whether to await the answers of `affectedAssumingOne`. Set when a transaction is repeated because an assumption was wrong.
   */
  readonly #doubts: boolean
  #environments = 0
  /** Rows that were read, by table. A write to the table removes them. */
  readonly #known = new Map<
    string,
    { readonly row: Row | undefined; readonly tables: ReadonlyArray<string> }
  >()
  readonly #asked = new Map<string, Read>()
  readonly #deferred = new DeferredWrites()
  /** The error of a statement whose answer was not awaited. */
  #failure: { readonly error: unknown } | undefined

  constructor(session: Session, tx: PostgresTransaction, doubts = false) {
    this.#session = session
    this.#tx = tx
    this.#doubts = doubts
  }

  /** The first error of this transaction, if any; otherwise `error`. Later errors are only consequences of the first. */
  cause(error: unknown): unknown {
    return this.#failure === undefined ? error : this.#failure.error
  }

  /** Notes the failure of a statement that was not awaited. */
  failed(error: unknown): void {
    this.#failure ??= { error }
  }

  /** Sends a statement without awaiting its answer. */
  put(statement: Prepared, values: ReadonlyArray<Value | ReadonlyArray<Value>>): void {
    this.#session.put(statement, values, (error) => this.failed(error))
  }

  /** The single rows that programs have asked for, by statement and values. */
  get asked(): ReadonlyMap<string, Read> {
    return this.#asked
  }

  /**
   * Reads rows before any program asks for them. It adds no round trip: the answers come with those of the statements sent
   * before.
   */
  readAhead(reads: ReadonlyArray<Read>): Promise<unknown> {
    return Promise.all(
      reads.map(async ({ statement, values }) => {
        const { rows } = await this.#session.send(statement, values)
        this.#known.set(question(statement, values), {
          row: rows[0] as Row | undefined,
          tables: statement.tables
        })
      })
    )
  }

  /** Forgets all rows that were read: something other than a program may have changed them. */
  forgetReads(): void {
    this.#known.clear()
  }

  /** Sends the deferred writes. */
  #flush(): void {
    this.#deferred.flush((statement, values) => this.put(statement, values))
  }

  /** Runs a program; a refusal is returned as a value. */
  run<A, E>(program: Program<A, E>): Promise<A | Refused<E>> {
    return this.goOn(begin(program))
  }

  /** Runs the rest of a program. */
  async goOn<A, E>(begun: Begun<A, E>): Promise<A | Refused<E>> {
    let { step } = begun
    while (true) {
      for (const more of this.#tx.takeLater()) await this.run(more)
      if (step.done === true) return step.value
      // a refusal has already ended the program
      const answer = this.#answer(step.value as Query)
      let found: unknown
      let failure: { readonly error: unknown } | undefined
      if (answer instanceof Promise) {
        try {
          found = await answer
        } catch (error) {
          failure = { error }
        }
      } else found = answer
      step = next<A, E>(begun.steps, found, failure)
    }
  }

  /** Writes what caches hold back. */
  async writeHeld(): Promise<void> {
    for (const program of writesOf(this.#tx)) await this.run(program)
  }

  /** Writes what a transaction writes once for all its programs, before it commits. */
  async committing(): Promise<void> {
    await this.writeHeld()
    const saves: Array<Program<void>> = []
    eachCache(this.#tx.caches, (cache, made) => {
      if (cache.save !== undefined) saves.push(cache.save(made))
    })
    for (const save of saves) await this.run(save)
    this.#writeEnvironments()
    this.#flush()
  }

  #writeEnvironments(): void {
    const { created } = this.#tx
    if (created.size === this.#environments) return
    for (const [name, key] of [...created].slice(this.#environments))
      this.put(CREATE_ENVIRONMENT, [key, name])
    this.#environments = created.size
    this.#forget(["environments"])
  }

  #answer({ kind, statement, values, visitor }: Query): unknown {
    const translated = translate(statement, this.#tx.damage)
    this.#writeEnvironments()
    switch (kind) {
      case "write":
        return translated.keyed === undefined
          ? this.#put(translated, translated, values)
          : this.#insert(translated, values)
      case "insert":
        return this.#insert(translated, values)
      case "affectedAssumingOne":
        if (this.#doubts) return this.#affected(translated, values)
        this.#put(translated.assumingOne, translated, values)
        return 1
      case "affected":
        return this.#affected(translated, values)
      case "get":
        return this.#get(translated, values)
      case "all":
        return this.#wait(translated, values).then(({ rows }) => rows as ReadonlyArray<Row>)
      case "visit":
        return this.#wait(translated, values, true).then(({ rows }) => {
          for (const row of rows as ReadonlyArray<ReadonlyArray<Value>>) if (visitor?.(row) === false) return
        })
    }
  }

  /** Defers a write, and forgets the rows that were read from its tables. */
  #put(statement: Prepared, { tables }: Translated, values: ReadonlyArray<Value>): void {
    this.#forget(tables)
    // a repeated transaction does not merge writes
    this.#deferred.add(statement, this.#doubts ? undefined : statement.merged, tables, values.map(sendable))
  }

  #forget(tables: ReadonlyArray<string>): void {
    for (const [what, known] of this.#known) {
      if (known.tables.some((table) => tables.includes(table))) this.#known.delete(what)
    }
  }

  #affected(statement: Translated, values: ReadonlyArray<Value>): Promise<number> {
    this.#forget(statement.tables)
    return this.#wait(statement, values).then(({ rowCount }) => rowCount ?? 0)
  }

  /** Reads a row. When programs of a transaction ask for the same row again, it is not read again. */
  #get(statement: Translated, values: ReadonlyArray<Value>): Promise<Row | undefined> | Row | undefined {
    // a statement that writes rows and returns one is not a read
    if (!/^\s*SELECT\b/.test(statement.text)) {
      this.#forget(statement.tables)
      return this.#wait(statement, values).then(({ rows }) => rows[0] as Row | undefined)
    }
    const what = question(statement, values)
    this.#asked.set(what, { statement, values })
    const known = this.#known.get(what)
    if (known !== undefined) return known.row
    return this.#wait(statement, values).then(({ rows }) => {
      const row = rows[0] as Row | undefined
      this.#known.set(what, { row, tables: statement.tables })
      return row
    })
  }

  #wait(statement: Translated, values: ReadonlyArray<Value>, asArrays = false): Promise<Answer> {
    if (this.#deferred.touches(statement.tables)) this.#flush()
    // the answer has arrays or objects depending on `asArrays`, whatever the statement is
    return this.#session.wait(this.#session.send(statement, values, asArrays))
  }

  #insert(translated: Translated, values: ReadonlyArray<Value>): unknown {
    const { keyed, returning, tables } = translated
    if (keyed !== undefined) {
      const key = ++this.#tx.numbers[keyed.table]
      this.#put(keyed, translated, [...values, key])
      return key
    }
    this.#forget(tables)
    if (this.#deferred.touches(tables)) this.#flush()
    return this.#session.wait(this.#session.send(returning, values)).then(({ rows }) => Number(rows[0]?.key))
  }
}
