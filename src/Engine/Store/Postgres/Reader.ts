/**
 * Runs programs that only read. Those that arrive in one turn of the event loop share a connection and a snapshot, and their
 * statements are sent together. A slow program delays those that share its snapshot, and others only when no connection is left.
 */
import type { Pool } from "pg"
import { setImmediate } from "../../../RealTimers.ts"
import type { Program, Row, Value } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { isConnectionLost, isStalePlan } from "./PostgresErrors.ts"
import type { PostgresTransaction } from "./PostgresTransaction.ts"
import { begin, type Begun, Runner, Session, type Traffic } from "./Session.ts"

/** Maximum number of programs in one snapshot. */
const GROUP = 64

/** Creates the program. Each created program runs once. */
type Make = () => Program<unknown, unknown>

interface Reading {
  readonly tx: PostgresTransaction
  readonly make: Make
  /** The program as it was first started; `undefined` when it is to be started again. */
  readonly begun: Begun<unknown, unknown> | undefined
  readonly succeed: (value: unknown) => void
  readonly fail: (cause: unknown) => void
}

const SNAPSHOT = { name: "snapshot", text: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" }
const END = { name: "end", text: "COMMIT" }

export class Reader {
  readonly #pool: Pool
  readonly #traffic: Traffic
  readonly #waiting: Set<Session>
  #queue: Array<Reading> = []

  constructor(pool: Pool, traffic: Traffic, waiting: Set<Session>) {
    this.#pool = pool
    this.#traffic = traffic
    this.#waiting = waiting
  }

  /** Runs a program in a snapshot. A program without statements runs at once. */
  read(tx: PostgresTransaction, make: Make): Promise<unknown> {
    const begun = begin(make())
    if (begun.step.done === true) return Promise.resolve(begun.step.value)
    return new Promise((succeed, fail) => {
      this.#queue.push({ tx, make, begun, succeed, fail })
      if (this.#queue.length === 1) setImmediate(() => this.#take())
    })
  }

  /** Runs a program without a snapshot: each statement sees the current data. A single row that it asks for again is not read again. */
  async readApart(tx: PostgresTransaction, make: Make): Promise<unknown> {
    while (true) {
      try {
        return await this.#with((session) => new Runner(session, tx).run(make()))
      } catch (error) {
        // the session had an old plan and has been ended: the pool opens another one
        if (!isStalePlan(error)) throw error
      }
    }
  }

  /**
   * Runs one statement of the store itself. A connection that is dead without an error is found while it waits, as for all
   * sessions; a query of the pool would wait for hours.
   */
  ask(statement: Prepared, values: ReadonlyArray<Value> = []): Promise<ReadonlyArray<Row>> {
    return this.#with(async (session) => (await session.wait(session.send(statement, values))).rows)
  }

  /** Whether readers wait for a free connection. */
  get isBusy(): boolean {
    return this.#pool.waitingCount > 0
  }

  #take(): void {
    const all = this.#queue
    this.#queue = []
    for (let i = 0; i < all.length; i += GROUP) void this.#readAll(all.slice(i, i + GROUP))
  }

  async #readAll(group: ReadonlyArray<Reading>): Promise<void> {
    try {
      await this.#with(async (session, end) => {
        session.put(SNAPSHOT)
        const results = await Promise.allSettled(
          group.map(({ begun, make, tx }) => new Runner(session, tx).goOn(begun ?? begin(make())))
        )
        session.put(END)
        session.flush()
        for (const [i, result] of results.entries()) {
          const reading = group[i]!
          if (result.status === "fulfilled") reading.succeed(result.value)
          // the first failed statement ends the snapshot for all: each program is read again alone
          else if (isStalePlan(result.reason)) {
            end()
            void this.#readAll([{ ...reading, begun: undefined }])
          } else if (group.length === 1 || isConnectionLost(result.reason)) {
            reading.fail(result.reason)
          } else {
            void this.#readAll([{ ...reading, begun: undefined }])
          }
        }
      })
    } catch (error) {
      for (const { fail } of group) fail(error)
    }
  }

  /** Calls `run` with a session of the pool. `run` calls `end` when the session cannot be used again. */
  async #with<A>(run: (session: Session, end: () => void) => Promise<A>): Promise<A> {
    const client = await this.#pool.connect()
    let isDead = false
    // an error of the connection also fails the sent statements
    const onError = (): void => void (isDead = true)
    client.on("error", onError)
    try {
      return await run(new Session(client, this.#traffic, this.#waiting), onError)
    } catch (error) {
      isDead ||= isConnectionLost(error)
      throw error
    } finally {
      client.off("error", onError)
      client.release(isDead)
    }
  }
}
