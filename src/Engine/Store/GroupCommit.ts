/**
 * One writer for all: commands that arrive together share a transaction, and every caller wakes after the commit.
 *
 * A transaction costs one flush to disk however many commands are in it; that is where the throughput comes from. A
 * command that throws rolls the whole group back, and the group is replayed one command a transaction, so that the
 * fault stays with the command that has it. Commands therefore change nothing but the database and what `begin` resets.
 */
import type { DatabaseSync } from "node:sqlite"

interface Command {
  readonly run: () => unknown
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface GroupCommitOptions {
  /** Most commands in one transaction. */
  readonly max: number
  /** Called before every transaction. */
  readonly beginning?: () => void
  /** Called at the start of every transaction, before its commands. */
  readonly begin: () => void
  /** Called after the commands, before they are committed. */
  readonly committing?: () => void
  /** Called when a transaction was rolled back. */
  readonly rolledBack?: () => void
  /** Called after every commit, before the callers wake. */
  readonly committed: () => void
}

export class GroupCommit {
  readonly #queue: Array<Command> = []
  readonly #options: GroupCommitOptions
  readonly #begin
  readonly #commit
  readonly #rollback
  #scheduled = false
  #closed: unknown
  /** Transactions committed and commands in them, since the start. */
  commits = 0
  commands = 0

  constructor(db: DatabaseSync, options: GroupCommitOptions) {
    this.#options = options
    this.#begin = db.prepare("BEGIN IMMEDIATE")
    this.#commit = db.prepare("COMMIT")
    this.#rollback = db.prepare("ROLLBACK")
  }

  /** Queues a command. One of the callbacks is called after the commit, or when the command failed. */
  submit<A>(run: () => A, succeed: (value: A) => void, fail: (cause: unknown) => void): void {
    if (this.#closed !== undefined) return fail(this.#closed)
    this.#queue.push({ run, succeed, fail, result: undefined })
    this.#schedule()
  }

  /** Commits what is queued; later commands fail with `reason`. */
  close(reason: unknown): void {
    while (this.#queue.length > 0) this.#drain()
    this.#closed = reason
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#drain()
      if (this.#queue.length > 0) this.#schedule()
    })
  }

  #drain(): void {
    const group = this.#queue.splice(0, this.#options.max)
    if (group.length === 0) return
    const cause = this.#transact(group)
    if (cause === undefined) return this.#wake(group)
    if (group.length === 1) return group[0]!.fail(cause.error)
    for (const command of group) {
      const alone = this.#transact([command])
      if (alone === undefined) this.#wake([command])
      else command.fail(alone.error)
    }
  }

  #transact(group: ReadonlyArray<Command>): { readonly error: unknown } | undefined {
    let open = false
    try {
      this.#options.beginning?.()
      this.#begin.run()
      open = true
      this.#options.begin()
      for (const command of group) command.result = command.run()
      this.#options.committing?.()
      this.#commit.run()
    } catch (error) {
      if (open) {
        try {
          this.#rollback.run()
        } catch {
          // SQLite has rolled back by itself (disk full, I/O error): nothing is open, `error` is the reason
        }
      }
      this.#options.rolledBack?.()
      return { error }
    }
    this.commits++
    this.commands += group.length
    return undefined
  }

  #wake(group: ReadonlyArray<Command>): void {
    this.#options.committed()
    for (const command of group) command.succeed(command.result as never)
  }
}
