/**
 * A single writer: programs that arrive together share a transaction, and every caller wakes when the transaction is durable.
 *
 * A transaction costs one sync of the disk, however many programs are in it. This is what gives the throughput. While a slow disk
 * syncs one group, the process goes on with other work, and new programs gather for the next group. A program that throws rolls
 * the whole group back. The group is then repeated with one program per transaction, so that only the faulty program fails. So a
 * program must change nothing but the database and what `begin` resets.
 */
import type { DatabaseSync } from "node:sqlite"
import { MAX_SHARED_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import { endTransaction } from "./EndTransaction.ts"
import { clearTimeout, setTimeout } from "../../RealTimers.ts"
import { afterOthers } from "../EventLoop.ts"
import type { Sync } from "./WalSync.ts"

interface QueuedProgram {
  readonly run: () => unknown
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface GroupCommitOptions {
  /** Maximum number of programs in one transaction. */
  readonly max: number
  /** Whether the transaction has done enough since `begin`. If so, the remaining programs get the next one. */
  readonly isFull?: () => boolean
  /** Called before every group. Returns a program that has to be committed before the group, if any. */
  readonly beforeGroup?: () => (() => void) | undefined
  /** Called with the error when that program could not be committed. */
  readonly beforeGroupFailed?: (error: unknown) => void
  /** Called before every transaction. */
  readonly beginning?: () => void
  /** Called at the start of every transaction, before its programs. */
  readonly begin: () => void
  /**
   * Called after the programs, unless the transaction is full, one of them failed, or the transaction repeats one program of a
   * failed group. Programs that it submits join the transaction.
   */
  readonly joining?: () => void
  /** Called after the programs, before they are committed. */
  readonly committing?: () => void
  /** Called after a transaction was rolled back. */
  readonly rolledBack?: () => void
  /**
   * Called with the error after `rolledBack`. Returns whether it repaired something, so that the same programs may succeed now.
   */
  readonly isolateDamage?: (error: unknown) => boolean
  /** Called with the time until a group was durable, milliseconds, and with its number of programs. */
  readonly took?: (ms: number, programs: number) => void
  /**
   * Called after every commit, which may not be durable yet. It may return a function, which is called when the commit is durable,
   * before the callers wake.
   */
  readonly committed: () => (() => void) | void
  /** Makes commits durable. Absent where `COMMIT` itself does so. */
  readonly sync?: Sync | undefined
  /**
   * Called with the error when the disk has refused to store a commit. What was committed may be lost with the next power cut,
   * and so may everything after it, so nothing more may be written. Returns the error for the callers.
   */
  readonly refused?: (error: unknown) => unknown
}

/**
 * A disk is slow when its last sync took longer than this, milliseconds. On a fast disk, syncing beside other work costs more
 * than it gains.
 */
const SLOW_MS = 4
/** Of the syncs of a slow disk, one in so many is waited for: it shows how long a sync really takes. */
const MEASURED_EVERY = 32
/**
 * How long a sync may take beside other work before it is waited for, milliseconds. It runs on the threads of Node.js that also
 * look up names and read files for the user's code, and they may be busy with that for long.
 */
const MOST_ASIDE_MS = 250

/** How often a transaction is repeated because something was repaired. */
const MAX_ISOLATED = 500

export class GroupCommit {
  readonly #db: DatabaseSync
  readonly #queue: Array<QueuedProgram> = []
  readonly #options: GroupCommitOptions
  readonly #begin
  readonly #commit
  #scheduled = false
  /**
   * How long the last group took, milliseconds. The longer it took, the more turns of the event loop pass before the next one.
   */
  #tookMs = 0
  /** How long the last sync took, milliseconds. */
  #syncMs = 0
  /** How many syncs ran beside other work. */
  #backgroundSyncs = 0
  #closed: unknown
  /** Ends the group that the disk is storing, with the error if the disk refuses; `undefined` when there is no such group. */
  #finish: ((refused?: { readonly error: unknown }) => void) | undefined
  /** The functions to call when the disk has stored that group, or has refused to. */
  #afterSync: Array<(refused?: { readonly error: unknown }) => void> = []
  /** Committed transactions since the start. */
  commits = 0
  /** Programs in the committed transactions since the start. */
  programs = 0

  constructor(db: DatabaseSync, options: GroupCommitOptions) {
    this.#db = db
    this.#options = options
    this.#begin = db.prepare("BEGIN IMMEDIATE")
    this.#commit = db.prepare("COMMIT")
  }

  /** Queues a program. `succeed` is called when its commit is durable, `fail` when the program failed. */
  submit<A>(run: () => A, succeed: (value: A) => void, fail: (cause: unknown) => void): void {
    if (this.#closed !== undefined) return fail(this.#closed)
    this.#queue.push({ run, succeed, fail, result: undefined })
    this.#schedule()
  }

  /** Commits the queued programs, and what must precede the next group. Later programs fail with `reason`. */
  close(reason: unknown): void {
    this.#waitForDisk()
    while (this.#queue.length > 0) {
      this.#drain()
      this.#waitForDisk()
    }
    if (this.#closed === undefined) this.#doFirst()
    this.#closed ??= reason
  }

  /** Stops writing: queued and later programs fail with `reason`. */
  stop(reason: unknown): void {
    this.#closed ??= reason
  }

  /**
   * Calls `f` when everything that is committed now is durable, which may be at once. Calls it with the error when the disk
   * refuses.
   */
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
    for (const program of group) {
      const alone = this.#transactIsolating([program], false)
      if (alone === undefined) this.#end([program])
      else program.fail(alone.error)
    }
  }

  #doFirst(): void {
    const run = this.#options.beforeGroup?.()
    if (run === undefined) return
    const first: QueuedProgram = { run, succeed: () => {}, fail: () => {}, result: undefined }
    const cause = this.#transactIsolating([first], false)
    if (cause === undefined) this.#end([first])
    else this.#options.beforeGroupFailed?.(cause.error)
  }

  #transactIsolating(group: Array<QueuedProgram>, mayJoin = true): { readonly error: unknown } | undefined {
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

  /** Runs the group. When some programs have taken long, the rest waits for the next transaction. */
  #transact(group: Array<QueuedProgram>, mayJoin: boolean): { readonly error: unknown } | undefined {
    let open = false
    try {
      this.#options.beginning?.()
      this.#begin.run()
      open = true
      this.#options.begin()
      const before = stepsTaken()
      const programs = group.length
      for (let i = 0; i < group.length; i++) {
        group[i]!.result = group[i]!.run()
        const isFull = stepsTaken() - before > MAX_SHARED_STEPS || this.#options.isFull?.() === true
        if (isFull && i + 1 < group.length) this.#queue.unshift(...group.splice(i + 1))
        else if (mayJoin && !isFull && i + 1 === programs) this.#join(group)
      }
      this.#options.committing?.()
      this.#commit.run()
    } catch (error) {
      if (open) endTransaction(this.#db)
      this.#options.rolledBack?.()
      return { error }
    }
    this.commits++
    this.programs += group.length
    return undefined
  }

  #join(group: Array<QueuedProgram>): void {
    const others = this.#queue.length
    this.#options.joining?.()
    group.push(...this.#queue.splice(others))
  }

  /** Ends a committed group: its callers wake when it is durable. `beganAt`: when the group began; absent for single programs. */
  #end(group: ReadonlyArray<QueuedProgram>, beganAt?: number): void {
    const { sync } = this.#options
    const tell = this.#options.committed()
    const finish = (refusal?: { readonly error: unknown }): void => {
      if (refusal !== undefined) {
        for (const program of group) program.fail(refusal.error)
        return
      }
      if (beganAt !== undefined) this.#options.took?.(performance.now() - beganAt, group.length)
      tell?.()
      for (const program of group) program.succeed(program.result as never)
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
      // something else waited for the disk, and has ended the group
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

  /** Blocks until the disk has stored the group that it is storing. */
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
