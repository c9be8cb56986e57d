/** The reads of a store on Postgres. They run beside the writes of this engine, on other connections. */
import * as Effect from "effect/Effect"
import type { Pool } from "pg"
import type { StoreError } from "../../../Errors.ts"
import { resultAsEffect } from "../ResultAsEffect.ts"
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
  /** The writer, which knows the commits of other engines that this engine has followed. */
  readonly writer: Writer
  /** Absent for an engine that uses the tables alone. */
  readonly notifications: CommitNotifications | undefined
  readonly listeners: Listeners
  /** The error of reads after the store was closed. */
  readonly closedError: StoreError
}

const FIND_ENVIRONMENT = { name: "findEnvironment", text: "SELECT 1 FROM environments WHERE name = $1" }

/** How a program reads: `"read"` in a snapshot, `"readApart"` so that each statement sees the current data. */
type ReadMethod = "read" | "readApart"

export class PostgresReads {
  readonly #options: PostgresReadsOptions

  constructor(options: PostgresReadsOptions) {
    this.#options = options
  }

  /** Runs a program that reads. Fails with its refusals. */
  read<A, E>(method: ReadMethod, call: Call<A, E>): Effect.Effect<A, E | StoreError> {
    const { closedError, pool, tx } = this.#options
    return Effect.flatMap(
      Effect.tryPromise({
        try: () => this.#readUpToDate(method, call),
        // the error of an ended pool would not say that the store is closed
        catch: (cause) => (pool.ending ? closedError : callError(call, cause, tx.damage))
      }),
      resultAsEffect
    )
  }

  /**
   * Runs the program. If the program has looked up an environment that another engine has created, and that this engine does not
   * know yet, runs the program again.
   */
  async #readUpToDate<A, E>(method: ReadMethod, call: Call<A, E>): Promise<A | Refused<E>> {
    const { result, unknownEnvironment } = await this.#readOnce(method, call)
    if (unknownEnvironment === undefined || !(await this.#follow(unknownEnvironment))) return result
    return (await this.#readOnce(method, call)).result
  }

  async #readOnce<A, E>(
    method: ReadMethod,
    call: Call<A, E>
  ): Promise<{
    readonly result: A | Refused<E>
    /** The environment that the program has looked up and this engine does not know. */
    readonly unknownEnvironment: string | undefined
  }> {
    const { listeners, notifications, reader, tx, writer } = this.#options
    if (listeners.lost !== undefined) throw listeners.lost
    const view = tx.forReader(
      notifications === undefined || writer.transactionStart.sequence >= notifications.sequence
    )
    // safe cast: the reader returns what the program returns
    const result = (await reader[method](view, () => call.run(view))) as A | Refused<E>
    return { result, unknownEnvironment: view.unknownEnvironment }
  }

  /** If this environment exists, reads what other engines have committed, and returns `true`. */
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
