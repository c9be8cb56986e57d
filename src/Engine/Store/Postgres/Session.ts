/** A connection to Postgres ({@link Session}), and the runner of programs on it ({@link Runner}). */
import type { Client } from "pg"
import { withSharedBudget } from "../../../ExpressionBudget.ts"
import { forEachCache, heldWritesOf } from "../Cache.ts"
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
 * Converts a value to the form in which it is sent. A number with a fraction is a time in milliseconds: it is rounded up, so that
 * nothing is due early.
 */
const sendable = (value: Value): Value => {
  if (typeof value === "string" || value === null || Number.isSafeInteger(value)) return value
  if (typeof value !== "number") {
    if (typeof value === "bigint" || value instanceof Uint8Array) return value
    // the driver would send a value of any other type as JSON
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

/**
 * The process id of the session at the server, as the server has told it at the start of the connection. A pooler tells a number of
 * its own instead.
 */
export const pidOf = (client: Client): number =>
  // the declared type of `Client` lacks `processID`
  (client as unknown as { readonly processID: number }).processID

export class Session {
  readonly client: Client
  readonly #socket: Socket
  readonly #traffic: Traffic
  readonly #unanswered: Set<Session> | undefined
  /** Statements that the next flush sends. */
  #unsent: Array<PipelineEntry> = []
  #isFlushScheduled = false
  /** How many answers are awaited. */
  #awaited = 0
  /** How many answers have arrived. */
  #answered = 0

  /** The session adds itself to `unanswered` while it waits for an answer. */
  constructor(client: Client, traffic: Traffic, unanswered?: Set<Session>) {
    this.client = client
    this.#traffic = traffic
    this.#unanswered = unanswered
    this.#socket = socketOf(client)
  }

  /** Sends a statement. It goes out together with all statements that are sent before the next {@link wait}. */
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

  /** Sends a statement whose answer is not awaited. `failed` is called when the statement fails. */
  put(
    statement: Prepared,
    values: ReadonlyArray<Value | ReadonlyArray<Value>> = [],
    failed: (error: unknown) => void = () => undefined
  ): void {
    this.send(statement, values).catch(failed)
  }

  /** Sends the statements that were not sent yet, and waits for `answer`. */
  wait<A>(answer: Promise<A>): Promise<A> {
    // sends in a microtask, so that the statements of all programs that run in this turn of the event loop go out together
    if (!this.#isFlushScheduled) {
      this.#isFlushScheduled = true
      this.#traffic.roundTrips++
      queueMicrotask(() => this.flush())
    }
    if (this.#unanswered !== undefined) {
      if (this.#awaited++ === 0) this.#unanswered.add(this)
      answer.then(this.#onAnswer, this.#onAnswer)
    }
    return answer
  }

  readonly #onAnswer = (): void => {
    this.#answered++
    if (--this.#awaited === 0) this.#unanswered?.delete(this)
  }

  /** A number that grows whenever the client receives anything. */
  get progress(): number {
    return this.#answered + this.#socket.bytesRead
  }

  /** See {@link pidOf}. */
  get pid(): number {
    return pidOf(this.client)
  }

  /** Ends the connection. Everything that waits for an answer on it fails. */
  break(): void {
    const message = "Postgres is not working on the statement, and no answer has come: the connection is dead"
    this.#socket.destroy(Object.assign(new Error(message), { code: "ETIMEDOUT" }))
  }

  /** Sends the statements that were not sent yet. */
  flush(): void {
    this.#isFlushScheduled = false
    const entries = this.#unsent
    if (entries.length === 0) return
    this.#unsent = []
    sendPipeline(this.client, entries)
  }

  /** Fails the statements that were not sent, and does not send them. */
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

type ProgramIterator<A, E> = ReturnType<Program<A, E>[typeof Symbol.iterator]>
type Iteration<A, E> = IteratorResult<unknown, A | Refused<E>>

/** A started program. */
export interface Started<A, E> {
  readonly steps: ProgramIterator<A, E>
  /** The first query of the program, or its end. */
  readonly step: Iteration<A, E>
}

/** Runs a program up to its first query. */
export const start = <A, E>(program: Program<A, E>): Started<A, E> => {
  const steps = program[Symbol.iterator]()
  return { steps, step: next<A, E>(steps, undefined) }
}

/**
 * Passes the result of a query to the program, or throws the error of the query within the program, which may note where the error
 * comes from. Runs the program up to its next query.
 */
const next = <A, E>(
  steps: ProgramIterator<A, E>,
  result: unknown,
  failure?: { readonly error: unknown }
): Iteration<A, E> => {
  try {
    if (failure === undefined) return withSharedBudget(() => steps.next(result))
    if (steps.throw === undefined) throw failure.error
    return steps.throw(failure.error)
  } catch (error) {
    // safe cast: the type of a program names every error with which it refuses
    if (error instanceof Refused) return { done: true, value: error as Refused<E> }
    throw error
  }
}

/** Identifies a read by its statement and values. */
const readKeyOf = ({ text }: Translated, values: ReadonlyArray<Value>): string =>
  `${text} ${JSON.stringify(values)}`

/** Runs programs on a session, in its open transaction if there is one. Remembers the single rows that the programs have read. */
export class Runner {
  readonly #session: Session
  readonly #tx: PostgresTransaction
  /**
   * Whether `affectedAssumingOne` waits for the count of changed rows. Set when a transaction is repeated because its assumption of
   * one row was wrong.
   */
  readonly #awaitsCounts: boolean
  /** How many of the environments that the transaction has created are written already. */
  #writtenEnvironments = 0
  /** Rows that were read, by {@link readKeyOf}, each with the tables that it comes from. A write to such a table removes the row. */
  readonly #knownRows = new Map<
    string,
    { readonly row: Row | undefined; readonly tables: ReadonlyArray<string> }
  >()
  readonly #programReads = new Map<string, Read>()
  readonly #deferred = new DeferredWrites()
  /** The error of a statement whose answer was not awaited. */
  #failure: { readonly error: unknown } | undefined

  constructor(session: Session, tx: PostgresTransaction, awaitsCounts = false) {
    this.#session = session
    this.#tx = tx
    this.#awaitsCounts = awaitsCounts
  }

  /**
   * Why this transaction fails: the error of a statement that was not awaited, if there is one, since it has caused the later
   * errors.
   */
  firstError(error: unknown): unknown {
    return this.#failure === undefined ? error : this.#failure.error
  }

  /** Notes the failure of a statement that was not awaited. */
  noteFailure(error: unknown): void {
    this.#failure ??= { error }
  }

  /** Sends a statement without awaiting its answer. */
  put(statement: Prepared, values: ReadonlyArray<Value | ReadonlyArray<Value>>): void {
    this.#session.put(statement, values, (error) => this.noteFailure(error))
  }

  /** The single rows that programs have asked for, by statement and values. */
  get programReads(): ReadonlyMap<string, Read> {
    return this.#programReads
  }

  /**
   * Reads rows before any program asks for them. This takes no extra round trip: the answers arrive together with the answers to
   * the statements that were sent before.
   */
  readAhead(reads: ReadonlyArray<Read>): Promise<unknown> {
    return Promise.all(
      reads.map(async ({ statement, values }) => {
        const { rows } = await this.#session.send(statement, values)
        this.#knownRows.set(readKeyOf(statement, values), {
          row: rows[0] as Row | undefined,
          tables: statement.tables
        })
      })
    )
  }

  /** Forgets all rows that were read: something other than a program may have changed them. */
  forgetReads(): void {
    this.#knownRows.clear()
  }

  /** Sends the deferred writes. */
  #flush(): void {
    this.#deferred.flush((statement, values) => this.put(statement, values))
  }

  /** Runs a program; returns its refusal as a value. */
  run<A, E>(program: Program<A, E>): Promise<A | Refused<E>> {
    return this.runRest(start(program))
  }

  /** Runs the rest of a started program. */
  async runRest<A, E>(started: Started<A, E>): Promise<A | Refused<E>> {
    let { step } = started
    while (true) {
      for (const more of this.#tx.takeLaterPrograms()) await this.run(more)
      if (step.done === true) return step.value
      // safe cast: a refusal would have ended the program, so this is a query
      const answer = this.#answer(step.value as Query)
      let result: unknown
      let failure: { readonly error: unknown } | undefined
      if (answer instanceof Promise) {
        try {
          result = await answer
        } catch (error) {
          failure = { error }
        }
      } else result = answer
      step = next<A, E>(started.steps, result, failure)
    }
  }

  /** Makes the writes that caches hold back. */
  async flushCaches(): Promise<void> {
    for (const program of heldWritesOf(this.#tx)) await this.run(program)
  }

  /** Writes what a transaction writes once for all its programs, before it commits. */
  async beforeCommit(): Promise<void> {
    await this.flushCaches()
    const saves: Array<Program<void>> = []
    forEachCache(this.#tx.caches, (cache, content) => {
      if (cache.save !== undefined) saves.push(cache.save(content))
    })
    for (const save of saves) await this.run(save)
    this.#writeEnvironments()
    this.#flush()
  }

  #writeEnvironments(): void {
    const { createdEnvironments } = this.#tx
    if (createdEnvironments.size === this.#writtenEnvironments) return
    for (const [name, key] of [...createdEnvironments].slice(this.#writtenEnvironments))
      this.put(CREATE_ENVIRONMENT, [key, name])
    this.#writtenEnvironments = createdEnvironments.size
    this.#forget(["environments"])
  }

  #answer({ kind, statement, values, visitor }: Query): unknown {
    const translated = translate(statement, this.#tx.damage)
    this.#writeEnvironments()
    switch (kind) {
      case "write":
        return translated.withKey === undefined
          ? this.#defer(translated, translated, values)
          : this.#insert(translated, values)
      case "insert":
        return this.#insert(translated, values)
      case "affectedAssumingOne":
        if (this.#awaitsCounts) return this.#affected(translated, values)
        this.#defer(translated.assumingOne, translated, values)
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
  #defer(statement: Prepared, { tables }: Translated, values: ReadonlyArray<Value>): void {
    this.#forget(tables)
    // no writes are merged in a transaction that is repeated because an assumption was wrong
    this.#deferred.add(
      statement,
      this.#awaitsCounts ? undefined : statement.merged,
      tables,
      values.map(sendable)
    )
  }

  /** Forgets the rows that were read from these tables. */
  #forget(tables: ReadonlyArray<string>): void {
    for (const [key, known] of this.#knownRows) {
      if (known.tables.some((table) => tables.includes(table))) this.#knownRows.delete(key)
    }
  }

  #affected(statement: Translated, values: ReadonlyArray<Value>): Promise<number> {
    this.#forget(statement.tables)
    return this.#wait(statement, values).then(({ rowCount }) => rowCount ?? 0)
  }

  /** Reads a row, unless it is known from an earlier read. */
  #get(statement: Translated, values: ReadonlyArray<Value>): Promise<Row | undefined> | Row | undefined {
    // a write that returns a row must run, and its row must not be remembered
    if (!/^\s*SELECT\b/.test(statement.text)) {
      this.#forget(statement.tables)
      return this.#wait(statement, values).then(({ rows }) => rows[0] as Row | undefined)
    }
    const key = readKeyOf(statement, values)
    this.#programReads.set(key, { statement, values })
    const known = this.#knownRows.get(key)
    if (known !== undefined) return known.row
    return this.#wait(statement, values).then(({ rows }) => {
      const row = rows[0] as Row | undefined
      this.#knownRows.set(key, { row, tables: statement.tables })
      return row
    })
  }

  #wait(statement: Translated, values: ReadonlyArray<Value>, asArrays = false): Promise<Answer> {
    if (this.#deferred.touches(statement.tables)) this.#flush()
    return this.#session.wait(this.#session.send(statement, values, asArrays))
  }

  #insert(translated: Translated, values: ReadonlyArray<Value>): unknown {
    const { returningKey, tables, withKey } = translated
    if (withKey !== undefined) {
      const key = ++this.#tx.numbers[withKey.table]
      this.#defer(withKey, translated, [...values, key])
      return key
    }
    this.#forget(tables)
    if (this.#deferred.touches(tables)) this.#flush()
    return this.#session
      .wait(this.#session.send(returningKey, values))
      .then(({ rows }) => Number(rows[0]?.key))
  }
}
