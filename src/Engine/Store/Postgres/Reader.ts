/**
 * Runs programs that only read. Programs that arrive in one turn of the event loop share a connection and a snapshot, and their
 * statements are sent together. A slow program delays the programs that share its snapshot. It delays other programs only when no
 * connection is left for them.
 */
import type { Pool } from "pg"
import { setImmediate } from "../../../RealTimers.ts"
import type { Program, Row, Value } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { isConnectionLost, isStalePlan } from "./PostgresErrors.ts"
import type { PostgresTransaction } from "./PostgresTransaction.ts"
import { Runner, Session, start, type Started, type Traffic } from "./Session.ts"

/** Maximum number of programs in one snapshot. */
const MAX_PROGRAMS = 64

/** Creates a program. A program runs only once, so it is created again when it has to be repeated. */
type MakeProgram = () => Program<unknown, unknown>

interface QueuedRead {
  readonly tx: PostgresTransaction
  readonly make: MakeProgram
  /** The started program; `undefined` when the program has to be created and started again. */
  readonly started: Started<unknown, unknown> | undefined
  readonly succeed: (value: unknown) => void
  readonly fail: (cause: unknown) => void
}

const SNAPSHOT = { name: "snapshot", text: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" }
const END = { name: "end", text: "COMMIT" }

export class Reader {
  readonly #pool: Pool
  readonly #traffic: Traffic
  readonly #unanswered: Set<Session>
  #queue: Array<QueuedRead> = []

  /** `unanswered`: see {@link Session}. */
  constructor(pool: Pool, traffic: Traffic, unanswered: Set<Session>) {
    this.#pool = pool
    this.#traffic = traffic
    this.#unanswered = unanswered
  }

  /** Runs a program in a snapshot. A program without statements runs at once. */
  read(tx: PostgresTransaction, make: MakeProgram): Promise<unknown> {
    const started = start(make())
    if (started.step.done === true) return Promise.resolve(started.step.value)
    return new Promise((succeed, fail) => {
      this.#queue.push({ tx, make, started, succeed, fail })
      if (this.#queue.length === 1) setImmediate(() => this.#readQueue())
    })
  }

  /**
   * Runs a program without a snapshot: each statement sees the current data. But a single row for which the program asks twice is
   * read only once.
   */
  async readApart(tx: PostgresTransaction, make: MakeProgram): Promise<unknown> {
    while (true) {
      try {
        return await this.#withSession((session) => new Runner(session, tx).run(make()))
      } catch (error) {
        // repeats the program if its session had an old plan: that session was ended, and the pool opens another one
        if (!isStalePlan(error)) throw error
      }
    }
  }

  /**
   * Runs one statement of the store itself. The statement is sent over a {@link Session}, so that the store notices when the
   * connection is dead without an error. A query of the pool would wait for hours on such a connection.
   */
  ask(statement: Prepared, values: ReadonlyArray<Value> = []): Promise<ReadonlyArray<Row>> {
    return this.#withSession(async (session) => (await session.wait(session.send(statement, values))).rows)
  }

  /** Whether readers wait for a free connection. */
  get isBusy(): boolean {
    return this.#pool.waitingCount > 0
  }

  #readQueue(): void {
    const queue = this.#queue
    this.#queue = []
    for (let i = 0; i < queue.length; i += MAX_PROGRAMS)
      void this.#readGroup(queue.slice(i, i + MAX_PROGRAMS))
  }

  /** Runs programs in one snapshot. When a program fails, every program without a result is repeated alone. */
  async #readGroup(group: ReadonlyArray<QueuedRead>): Promise<void> {
    try {
      await this.#withSession(async (session, end) => {
        session.put(SNAPSHOT)
        const results = await Promise.allSettled(
          group.map(({ make, started, tx }) => new Runner(session, tx).runRest(started ?? start(make())))
        )
        session.put(END)
        session.flush()
        for (const [i, result] of results.entries()) {
          const read = group[i]!
          if (result.status === "fulfilled") read.succeed(result.value)
          // a failed statement ends the snapshot for all programs that have no result yet: each of them is repeated alone
          else if (isStalePlan(result.reason)) {
            end()
            void this.#readGroup([{ ...read, started: undefined }])
          } else if (group.length === 1 || isConnectionLost(result.reason)) {
            read.fail(result.reason)
          } else {
            void this.#readGroup([{ ...read, started: undefined }])
          }
        }
      })
    } catch (error) {
      for (const { fail } of group) fail(error)
    }
  }

  /** Calls `run` with a session of the pool. `run` calls `end` when the session must not be used again. */
  async #withSession<A>(run: (session: Session, end: () => void) => Promise<A>): Promise<A> {
    const client = await this.#pool.connect()
    let isDead = false
    // an error of the connection also fails the sent statements
    const onError = (): void => void (isDead = true)
    client.on("error", onError)
    try {
      return await run(new Session(client, this.#traffic, this.#unanswered), onError)
    } catch (error) {
      isDead ||= isConnectionLost(error)
      throw error
    } finally {
      client.off("error", onError)
      client.release(isDead)
    }
  }
}
