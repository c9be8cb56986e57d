/** The reads of a store on SQLite. They run at once, on the connection of the writer, between its commits. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { withSharedBudget } from "../../ExpressionBudget.ts"
import { resultAsEffect } from "./ResultAsEffect.ts"
import type { GroupCommit } from "./GroupCommit.ts"
import type { Listeners } from "./Listeners.ts"
import { type Call, Refused } from "./Program.ts"
import type { ReadSnapshot } from "./ReadSnapshot.ts"
import { callError, isDamage } from "./SqliteErrors.ts"
import type { Transaction } from "./Transaction.ts"

export interface SqliteReadsOptions {
  readonly tx: Transaction
  readonly snapshot: ReadSnapshot
  /** The writer, which knows when the disk has everything that was committed. */
  readonly writer: GroupCommit
  readonly listeners: Listeners
}

export class SqliteReads {
  readonly #options: SqliteReadsOptions

  constructor(options: SqliteReadsOptions) {
    this.#options = options
  }

  /** Runs a program in the snapshot of this turn of the event loop. */
  read<A, E>(call: Call<A, E>): Effect.Effect<A, E | StoreError> {
    const { listeners, snapshot, tx } = this.#options
    const result = this.#readDurable(call.what, () => {
      if (listeners.lost !== undefined) throw listeners.lost
      snapshot.open()
      return withSharedBudget(() => perform(tx, call))
    })
    return Effect.flatMap(result, resultAsEffect)
  }

  /**
   * Runs a program without a snapshot, with each statement in a transaction of its own, so that a failed statement does not spoil
   * later statements.
   */
  readApart<A, E>(call: Call<A, E>): Effect.Effect<A, E | StoreError> {
    return Effect.flatMap(
      this.runApart(call.what, () => perform(this.#options.tx, call)),
      resultAsEffect
    )
  }

  /** Closes the snapshot, which may be older than the file, and then calls `run`. `what` says for messages what `run` is to do. */
  runApart<A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> {
    return this.#readDurable(what, () => {
      this.#options.snapshot.close()
      return run()
    })
  }

  /** Calls `run` at once. The caller gets its result when the disk has everything that `run` may have read. */
  #readDurable<A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> {
    return Effect.callback((resume) => {
      let result: A
      try {
        result = run()
      } catch (cause) {
        return resume(Effect.fail(this.#failed(what, cause)))
      }
      this.#options.writer.whenDurable((refused) =>
        resume(refused === undefined ? Effect.succeed(result) : Effect.fail(callError(what, refused.error)))
      )
    })
  }

  #failed(what: string | (() => string), cause: unknown): StoreError {
    const { snapshot, tx } = this.#options
    // a damaged page spoils the snapshot for the other reads of this turn of the event loop
    snapshot.close()
    if (isDamage(cause)) tx.damage.wasFound = true
    return callError(what, cause)
  }
}

/** Runs a program. Returns its refusal as a value: a thrown refusal would roll back the other programs of the transaction. */
export const perform = <A, E>(tx: Transaction, call: Call<A, E>): A | Refused<E> => {
  try {
    return tx.perform(call.run(tx))
  } catch (error) {
    // safe cast: a program refuses only with errors that its type names
    if (error instanceof Refused) return error as Refused<E>
    throw error
  }
}
