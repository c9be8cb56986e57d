/** The reads of a store on Postgres. They run beside the writes of this engine, on other connections. */
import * as Effect from "effect/Effect"
import type { Pool } from "pg"
import type { StoreError } from "../../../Errors.ts"
import { answerOf } from "../Answer.ts"
import type { Listeners } from "../Listeners.ts"
import type { Call, Refused } from "../Program.ts"
import type { CommitNotifications } from "./CommitNotifications.ts"
import { callError } from "./PostgresErrors.ts"
import type { PostgresTransaction } from "./PostgresTransaction.ts"
import type { Reader } from "./Reader.ts"
import type { Writer } from "./Writer.ts"

export interface PostgresReadsOptions {
  readonly tx: PostgresTransaction
  readonly pool: Pool
  readonly reader: Reader
  /** Knows what this engine has read of the commits of others. */
  readonly writer: Writer
  /** Absent for an engine that uses the tables alone. */
  readonly notifications: CommitNotifications | undefined
  readonly listeners: Listeners
  /** The error of reads after the store was closed. */
  readonly closed: StoreError
}

const FIND_ENVIRONMENT = { name: "findEnvironment", text: "SELECT 1 FROM environments WHERE name = $1" }

/** `"read"`: in a snapshot. `"readApart"`: each statement sees the current data. */
type How = "read" | "readApart"

export class PostgresReads {
  readonly #options: PostgresReadsOptions

  constructor(options: PostgresReadsOptions) {
    this.#options = options
  }

  /** Runs a program that reads. Fails with its refusals. */
  read<A, E>(how: How, call: Call<A, E>): Effect.Effect<A, E | StoreError> {
    const { closed, pool, tx } = this.#options
    return Effect.flatMap(
      Effect.tryPromise({
        try: () => this.#readFollowing(how, call),
        // the error of an ended pool does not say that the store is closed
        catch: (cause) => (pool.ending ? closed : callError(call, cause, tx.damage))
      }),
      answerOf
    )
  }

  /** Reads, and reads again when another engine has created the environment since this one last followed. */
  async #readFollowing<A, E>(how: How, call: Call<A, E>): Promise<A | Refused<E>> {
    const { result, unknown } = await this.#readOnce(how, call)
    if (unknown === undefined || !(await this.#follow(unknown))) return result
    return (await this.#readOnce(how, call)).result
  }

  async #readOnce<A, E>(
    how: How,
    call: Call<A, E>
  ): Promise<{
    readonly result: A | Refused<E>
    /** The environment that the program looked up and this engine does not know. */
    readonly unknown: string | undefined
  }> {
    const { listeners, notifications, reader, tx, writer } = this.#options
    if (listeners.lost !== undefined) throw listeners.lost
    const view = tx.beside(
      notifications === undefined || writer.transactionStart.sequence >= notifications.sequence
    )
    // what comes back is what the program returns
    const result = (await reader[how](view, () => call.run(view))) as A | Refused<E>
    return { result, unknown: view.unknownEnvironment }
  }

  /** Reads what others have committed, if they have created this environment. Returns whether they have. */
  async #follow(environment: string): Promise<boolean> {
    const { notifications, reader, writer } = this.#options
    if (notifications === undefined) return false
    if ((await reader.ask(FIND_ENVIRONMENT, [environment])).length === 0) return false
    await new Promise<void>((resolve) => {
      const done = (): void => resolve()
      writer.submit(() => Promise.resolve(), done, done)
    })
    return true
  }
}
