/**
 * A single writer: commands that arrive together share a transaction, and every caller wakes when the transaction is durable.
 *
 * A transaction costs one sync of the disk, however many commands are in it; that gives the throughput. While a slow disk works
 * for a group, the process goes on with other things, and new commands gather for the next group. A command that throws rolls
 * the whole group back. The group is then repeated with one command per transaction, so that only the faulty command fails. So
 * commands must change nothing but the database and what `begin` resets.
 */
import type { DatabaseSync } from "node:sqlite"
import { MAX_SHARED_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import { endTransaction } from "./EndTransaction.ts"
import { clearTimeout, setTimeout } from "../../RealTimers.ts"
import { afterOthers } from "../EventLoop.ts"
import type { Sync } from "./WalSync.ts"

interface Command {
  readonly run: () => unknown
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface GroupCommitOptions {
  /** Most commands in one transaction. */
  readonly max: number
  /** Whether the transaction has done enough since `begin`: the remaining commands get the next one. */
  readonly isFull?: () => boolean
  /** Called before every group. Returns what has to be committed before it, if anything. */
  readonly beforeGroup?: () => (() => void) | undefined
  /** Called with the error when that could not be committed. */
  readonly beforeGroupFailed?: (error: unknown) => void
  /** Called before every transaction. */
  readonly beginning?: () => void
  /** Called at the start of every transaction, before its commands. */
  readonly begin: () => void
  /**
   * Called after the commands, unless the transaction is full or one of them failed. Commands that it submits join the
   * transaction.
   */
  readonly joining?: () => void
  /** Called after the commands, before they are committed. */
  readonly committing?: () => void
  /** Called after a transaction was rolled back. */
  readonly rolledBack?: () => void
  /** Called with the error after that. Returns whether it repaired something, so that the same commands may succeed now. */
  readonly isolateDamage?: (error: unknown) => boolean
  /** Called with the time until a group was durable, milliseconds, and its number of commands. */
  readonly took?: (ms: number, commands: number) => void
  /** Called after every commit. The result is called when the commit is durable, before the callers wake. */
  readonly committed: () => (() => void) | void
  /** Makes commits durable; absent where `COMMIT` does. */
  readonly sync?: Sync | undefined
  /**
   * Called with the error when the disk has refused to store a commit. What was committed may be lost with the next power cut, and
   * so may everything after it: nothing must be written any more. Returns the error for the callers.
   */
  readonly refused?: (error: unknown) => unknown
}

/** A disk whose last sync took longer is slow, milliseconds. To go on while a fast one works costs more than it gains. */
const SLOW_MS = 4
/** So many syncs of a slow disk later one is waited for, which tells how long it really takes. */
const MEASURED_EVERY = 32
/**
 * How long a sync may take beside other work, milliseconds. The threads that do it also look up names and read files for the user's
 * code, and may be busy with that for long.
 */
const MOST_ASIDE_MS = 250

/** How often a transaction is repeated because something was repaired. */
const MAX_ISOLATED = 500

export class GroupCommit {
  readonly #db: DatabaseSync
  readonly #queue: Array<Command> = []
  readonly #options: GroupCommitOptions
  readonly #begin
  readonly #commit
  #scheduled = false
  /** How long the last group took, milliseconds: the longer, the more turns of the event loop pass before the next one. */
  #tookMs = 0
  /** How long the last sync took, milliseconds. */
  #syncMs = 0
  /** Syncs beside other work. */
  #backgroundSyncs = 0
  #closed: unknown
  /** Ends the group for which the disk works, with the error when it has refused. */
  #finish: ((refused?: { readonly error: unknown }) => void) | undefined
  /** What is called when the disk has stored that group. */
  #afterSync: Array<(refused?: { readonly error: unknown }) => void> = []
  /** Committed transactions, and commands in them, since the start. */
  commits = 0
  commands = 0

  constructor(db: DatabaseSync, options: GroupCommitOptions) {
    this.#db = db
    this.#options = options
    this.#begin = db.prepare("BEGIN IMMEDIATE")
    this.#commit = db.prepare("COMMIT")
  }

  /** Queues a command. One of the callbacks is called after the commit, or when the command failed. */
  submit<A>(run: () => A, succeed: (value: A) => void, fail: (cause: unknown) => void): void {
    if (this.#closed !== undefined) return fail(this.#closed)
    this.#queue.push({ run, succeed, fail, result: undefined })
    this.#schedule()
  }

  /** Commits what is queued, and what must precede the next group. Later commands fail with `reason`. */
  close(reason: unknown): void {
    this.#waitForDisk()
    while (this.#queue.length > 0) {
      this.#drain()
      this.#waitForDisk()
    }
    if (this.#closed === undefined) this.#doFirst()
    this.#closed ??= reason
  }

  /** Stops writing: queued and later commands fail with `reason`. */
  stop(reason: unknown): void {
    this.#closed ??= reason
  }

  /** Calls `f` when everything that is committed now is durable: at once, or with the error when the disk has refused. */
  whenDurable(f: (refused?: { readonly error: unknown }) => void): void {
    if (this.#finish === undefined) f()
    else this.#afterSync.push(f)
  }

  #schedule(): void {
    if (this.#scheduled || this.#finish !== undefined) return
    this.#scheduled = true
    afterOthers(this.#tookMs, () => {
      this.#scheduled = false
      this.#drain()
      if (this.#queue.length > 0) this.#schedule()
    })
  }

  #drain(): void {
    if (this.#finish !== undefined) return
    const group = this.#queue.splice(0, this.#options.max)
    if (group.length === 0) return
    this.#doFirst()
    const beganAt = performance.now()
    const cause = this.#transactIsolating(group)
    this.#tookMs = performance.now() - beganAt
    if (cause === undefined) return this.#end(group, beganAt)
    if (group.length === 1) return group[0]!.fail(cause.error)
    for (const command of group) {
      const alone = this.#transactIsolating([command], false)
      if (alone === undefined) this.#end([command])
      else command.fail(alone.error)
    }
  }

  #doFirst(): void {
    const run = this.#options.beforeGroup?.()
    if (run === undefined) return
    const first: Command = { run, succeed: () => {}, fail: () => {}, result: undefined }
    const cause = this.#transactIsolating([first], false)
    if (cause === undefined) this.#end([first])
    else this.#options.beforeGroupFailed?.(cause.error)
  }

  #transactIsolating(group: Array<Command>, mayJoin = true): { readonly error: unknown } | undefined {
    for (let isolated = 0; ; isolated++) {
      if (this.#closed !== undefined) return { error: this.#closed }
      const cause = this.#transact(group, mayJoin)
      if (
        cause === undefined ||
        isolated === MAX_ISOLATED ||
        this.#options.isolateDamage?.(cause.error) !== true
      ) {
        return cause
      }
    }
  }

  /** Runs the group. Leaves commands for the next transaction when this one has taken long. */
  #transact(group: Array<Command>, mayJoin: boolean): { readonly error: unknown } | undefined {
    let open = false
    try {
      this.#options.beginning?.()
      this.#begin.run()
      open = true
      this.#options.begin()
      const before = stepsTaken()
      const commands = group.length
      for (let i = 0; i < group.length; i++) {
        group[i]!.result = group[i]!.run()
        const isFull = stepsTaken() - before > MAX_SHARED_STEPS || this.#options.isFull?.() === true
        if (isFull && i + 1 < group.length) this.#queue.unshift(...group.splice(i + 1))
        else if (mayJoin && !isFull && i + 1 === commands) this.#join(group)
      }
      this.#options.committing?.()
      this.#commit.run()
    } catch (error) {
      if (open) endTransaction(this.#db)
      this.#options.rolledBack?.()
      return { error }
    }
    this.commits++
    this.commands += group.length
    return undefined
  }

  #join(group: Array<Command>): void {
    const others = this.#queue.length
    this.#options.joining?.()
    group.push(...this.#queue.splice(others))
  }

  /** Ends a committed group: its callers wake when it is durable. `beganAt`: when it began; absent for single commands. */
  #end(group: ReadonlyArray<Command>, beganAt?: number): void {
    const { sync } = this.#options
    const tell = this.#options.committed()
    const finish = (refusal?: { readonly error: unknown }): void => {
      if (refusal !== undefined) {
        for (const command of group) command.fail(refusal.error)
        return
      }
      if (beganAt !== undefined) this.#options.took?.(performance.now() - beganAt, group.length)
      tell?.()
      for (const command of group) command.succeed(command.result as never)
    }
    if (sync?.isNeeded() !== true) return finish()
    const syncedAt = performance.now()
    const mayGoOn =
      beganAt !== undefined && this.#syncMs > SLOW_MS && ++this.#backgroundSyncs % MEASURED_EVERY !== 0
    if (!mayGoOn) {
      try {
        sync.now()
      } catch (error) {
        return finish({ error: this.#refused(error) })
      }
      this.#syncMs = performance.now() - syncedAt
      return finish()
    }
    this.#finish = finish
    const impatient = setTimeout(() => this.#waitForDisk(), MOST_ASIDE_MS)
    sync.inBackground((error) => {
      clearTimeout(impatient)
      this.#syncMs = performance.now() - syncedAt
      // somebody could not wait for it
      if (this.#finish !== finish) return
      this.#diskIsDone(error == null ? undefined : { error: this.#refused(error) })
    })
  }

  /** The error for the callers when the disk has refused a commit. */
  #refused(error: unknown): unknown {
    return this.#options.refused?.(error) ?? error
  }

  #diskIsDone(refusal?: { readonly error: unknown }): void {
    const finish = this.#finish
    const after = this.#afterSync
    this.#finish = undefined
    this.#afterSync = []
    finish?.(refusal)
    for (const f of after) f(refusal)
    if (this.#queue.length > 0) this.#schedule()
  }

  /** Waits for the disk here. */
  #waitForDisk(): void {
    if (this.#finish === undefined) return
    try {
      this.#options.sync?.now()
    } catch (error) {
      return this.#diskIsDone({ error: this.#refused(error) })
    }
    this.#diskIsDone()
  }
}
