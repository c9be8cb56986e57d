/**
 * Programs that only read: those that come in one turn of the event loop share a connection and a snapshot, and what they ask
 * goes out together. A slow one holds up those of its group alone.
 */
import type { Pool } from "pg"
import { setImmediate } from "../../../RealTimers.ts"
import type { Program } from "../Program.ts"
import { isLost, isStalePlan } from "./PostgresErrors.ts"
import type { PostgresTransaction } from "./PostgresTransaction.ts"
import { Runner, Session, type Traffic } from "./Session.ts"

/** Most programs in one snapshot. */
const GROUP = 64

interface Reading {
  readonly tx: PostgresTransaction
  readonly makeProgram: () => Program<unknown, unknown>
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

  /** Runs a program in a snapshot. */
  read(tx: PostgresTransaction, makeProgram: () => Program<unknown, unknown>): Promise<unknown> {
    return new Promise((succeed, fail) => {
      this.#queue.push({ tx, makeProgram, succeed, fail })
      if (this.#queue.length === 1) setImmediate(() => this.#take())
    })
  }

  /** Runs a program statement by statement, each on what is there then. */
  async readApart(tx: PostgresTransaction, makeProgram: () => Program<unknown, unknown>): Promise<unknown> {
    while (true) {
      try {
        return await this.#with((session) => new Runner(session, tx).run(makeProgram()))
      } catch (error) {
        // the session has ended: there are as many as the pool has
        if (!isStalePlan(error)) throw error
      }
    }
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
          group.map(({ makeProgram, tx }) => new Runner(session, tx).run(makeProgram()))
        )
        session.put(END)
        session.flush()
        for (const [i, result] of results.entries()) {
          const reading = group[i]!
          if (result.status === "fulfilled") reading.succeed(result.value)
          // the first statement that fails ends the snapshot for all: each is read again alone
          else if (isStalePlan(result.reason)) {
            end()
            void this.#readAll([reading])
          } else if (group.length === 1 || isLost(result.reason)) {
            reading.fail(result.reason)
          } else {
            void this.#readAll([reading])
          }
        }
      })
    } catch (error) {
      for (const { fail } of group) fail(error)
    }
  }

  /** `run` may say that the session is of no use any more. */
  async #with<A>(run: (session: Session, end: () => void) => Promise<A>): Promise<A> {
    const client = await this.#pool.connect()
    let isDead = false
    // an error of the connection comes to the statements that were sent, too
    const onError = (): void => void (isDead = true)
    client.on("error", onError)
    try {
      return await run(new Session(client, this.#traffic, this.#waiting), onError)
    } catch (error) {
      isDead ||= isLost(error)
      throw error
    } finally {
      client.off("error", onError)
      client.release(isDead)
    }
  }
}
