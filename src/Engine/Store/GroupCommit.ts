/**
 * A single writer: programs that arrive together share a transaction, and every caller wakes when the transaction is durable.
 *
 * A transaction costs one sync of the disk, however many programs are in it, so groups give a high throughput. While a slow disk
 * syncs one group, the process goes on with other work, and new programs gather for the next group. A program that throws rolls
 * the whole group back. Then the programs of the group are repeated, each in its own transaction, so that only the faulty program
 * fails. So a program must change nothing but the database and what `begin` resets.
 */
import type { DatabaseSync } from "node:sqlite"
import { MAX_SHARED_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import { rollBack } from "./RollBack.ts"
import { clearTimeout, setTimeout } from "../../RealTimers.ts"
import { callAfterOthers } from "../EventLoop.ts"
import type { Sync } from "./WalSync.ts"

interface QueuedProgram {
  readonly run: () => unknown
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface GroupCommitOptions {
  /** Maximum number of programs in one transaction. */
  readonly maxPrograms: number
  /** Whether the transaction has done enough. If so, the remaining programs wait for the next transaction. */
  readonly isFull?: () => boolean
  /** Called before every group. If a program has to be committed before the group, returns that program. */
  readonly beforeGroup?: () => (() => void) | undefined
  /** Called with the error when the program of `beforeGroup` could not be committed. */
  readonly beforeGroupFailed?: (error: unknown) => void
  /** Called before every transaction, while none is open. */
  readonly beforeBegin?: () => void
  /** Called when a transaction was begun, before its programs. */
  readonly begin: () => void
  /**
   * Called after the programs. Programs that this function submits join the transaction. Not called when the transaction is full or
   * when a program failed, and not in a transaction for the program of `beforeGroup` or for one program of a failed group.
   */
  readonly afterPrograms?: () => void
  /** Called after the programs, before `COMMIT`. */
  readonly beforeCommit?: () => void
  /** Called after a transaction was rolled back. */
  readonly rolledBack?: () => void
  /**
   * Called with the error after `rolledBack`. Returns whether it has noted damaged rows. Noted rows are skipped from now on, so the
   * same programs may succeed when they are repeated.
   */
  readonly transactionFailed?: (error: unknown) => boolean
  /**
   * Called when a group is durable, with the milliseconds from its beginning until now, and with the number of programs in the
   * group. Not called for the program of `beforeGroup`, nor for one program of a failed group.
   */
  readonly groupDurable?: (ms: number, programs: number) => void
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
  readonly diskRefused?: (error: unknown) => unknown
}

/**
 * A disk is slow when its last sync took longer than this. On a fast disk, the process blocks during the sync, because to sync
 * beside other work would cost more time than it saves.
 */
const SLOW_MS = 4
/**
 * On a slow disk, the process blocks during one of this many syncs. Only such a sync shows how long a sync takes without other
 * work.
 */
const MEASURED_EVERY = 32
/**
 * How long a sync may take beside other work. After that, the process blocks and syncs itself. A sync beside other work runs on the
 * threads of Node.js that also look up names and read files for the user's code. These threads may be busy for long.
 */
const MAX_BACKGROUND_MS = 250

/** Maximum number of times that a transaction is repeated because damaged rows were found. */
const MAX_REPEATS = 500

export class GroupCommit {
  readonly #db: DatabaseSync
  readonly #queue: Array<QueuedProgram> = []
  readonly #options: GroupCommitOptions
  readonly #begin
  readonly #commit
  #isScheduled = false
  /** How long the last group took. The longer it took, the more turns of the event loop pass before the next group. */
  #tookMs = 0
  /** How long the last sync took. */
  #syncMs = 0
  /** How many syncs were made while the disk was slow; see {@link MEASURED_EVERY}. */
  #slowDiskSyncs = 0
  /** Why nothing is written any more, if so. */
  #closeReason: unknown
  /** Ends the group that the disk is storing, with the error if the disk refuses; `undefined` when the disk stores no group. */
  #finishGroup: ((refused?: { readonly error: unknown }) => void) | undefined
  /** The functions to call when the disk has stored the current group, or has refused to. */
  #afterSync: Array<(refused?: { readonly error: unknown }) => void> = []
  /** How many transactions were committed since the start. */
  commits = 0
  /** How many programs these transactions had. */
  programs = 0

  constructor(db: DatabaseSync, options: GroupCommitOptions) {
    this.#db = db
    this.#options = options
    this.#begin = db.prepare("BEGIN IMMEDIATE")
    this.#commit = db.prepare("COMMIT")
  }

  /** Queues a program. `succeed` is called when the commit of the program is durable, `fail` when the program or the commit fails. */
  submit<A>(run: () => A, succeed: (value: A) => void, fail: (cause: unknown) => void): void {
    if (this.#closeReason !== undefined) return fail(this.#closeReason)
    this.#queue.push({ run, succeed, fail, result: undefined })
    this.#schedule()
  }

  /** Commits the queued programs, and the program of `beforeGroup`. Later programs fail with `reason`. */
  close(reason: unknown): void {
    this.#waitForDisk()
    while (this.#queue.length > 0) {
      this.#drain()
      this.#waitForDisk()
    }
    if (this.#closeReason === undefined) this.#commitBeforeGroup()
    this.#closeReason ??= reason
  }

  /** Stops writing: queued and later programs fail with `reason`. */
  stop(reason: unknown): void {
    this.#closeReason ??= reason
  }

  /**
   * Calls `f` when everything that is committed now is durable, which may be at once. Calls `f` with the error when the disk
   * refuses.
   */
  whenDurable(f: (refused?: { readonly error: unknown }) => void): void {
    if (this.#finishGroup === undefined) f()
    else this.#afterSync.push(f)
  }

  #schedule(): void {
    if (this.#isScheduled || this.#finishGroup !== undefined) return
    this.#isScheduled = true
    callAfterOthers(this.#tookMs, () => {
      this.#isScheduled = false
      this.#drain()
      if (this.#queue.length > 0) this.#schedule()
    })
  }

  #drain(): void {
    if (this.#finishGroup !== undefined) return
    const group = this.#queue.splice(0, this.#options.maxPrograms)
    if (group.length === 0) return
    this.#commitBeforeGroup()
    const beganAt = performance.now()
    const failure = this.#transactIsolating(group)
    this.#tookMs = performance.now() - beganAt
    if (failure === undefined) return this.#end(group, beganAt)
    if (group.length === 1) return group[0]!.fail(failure.error)
    for (const program of group) {
      const failureAlone = this.#transactIsolating([program], false)
      if (failureAlone === undefined) this.#end([program])
      else program.fail(failureAlone.error)
    }
  }

  /** Commits the program that `beforeGroup` returns, if any. */
  #commitBeforeGroup(): void {
    const run = this.#options.beforeGroup?.()
    if (run === undefined) return
    const program: QueuedProgram = { run, succeed: () => {}, fail: () => {}, result: undefined }
    const failure = this.#transactIsolating([program], false)
    if (failure === undefined) this.#end([program])
    else this.#options.beforeGroupFailed?.(failure.error)
  }

  /** Commits a group. Repeats the transaction as long as its errors come from damaged rows that were not noted before. */
  #transactIsolating(group: Array<QueuedProgram>, mayJoin = true): { readonly error: unknown } | undefined {
    for (let repeats = 0; ; repeats++) {
      if (this.#closeReason !== undefined) return { error: this.#closeReason }
      const failure = this.#transact(group, mayJoin)
      if (
        failure === undefined ||
        repeats === MAX_REPEATS ||
        this.#options.transactionFailed?.(failure.error) !== true
      ) {
        return failure
      }
    }
  }

  /** Commits the group in one transaction. When some programs have taken long, the others wait for the next transaction. */
  #transact(group: Array<QueuedProgram>, mayJoin: boolean): { readonly error: unknown } | undefined {
    let isOpen = false
    try {
      this.#options.beforeBegin?.()
      this.#begin.run()
      isOpen = true
      this.#options.begin()
      const stepsBefore = expressionSteps()
      const programs = group.length
      for (let i = 0; i < group.length; i++) {
        group[i]!.result = group[i]!.run()
        const isFull = expressionSteps() - stepsBefore > MAX_SHARED_STEPS || this.#options.isFull?.() === true
        if (isFull && i + 1 < group.length) this.#queue.unshift(...group.splice(i + 1))
        else if (mayJoin && !isFull && i + 1 === programs) this.#join(group)
      }
      this.#options.beforeCommit?.()
      this.#commit.run()
    } catch (error) {
      if (isOpen) rollBack(this.#db)
      this.#options.rolledBack?.()
      return { error }
    }
    this.commits++
    this.programs += group.length
    return undefined
  }

  #join(group: Array<QueuedProgram>): void {
    const queuedBefore = this.#queue.length
    this.#options.afterPrograms?.()
    group.push(...this.#queue.splice(queuedBefore))
  }

  /**
   * Ends a committed group: its callers wake when the group is durable. `beganAt` is when the group began; it is absent for a
   * program that was committed alone.
   */
  #end(group: ReadonlyArray<QueuedProgram>, beganAt?: number): void {
    const { sync } = this.#options
    const onDurable = this.#options.committed()
    const finish = (refusal?: { readonly error: unknown }): void => {
      if (refusal !== undefined) {
        for (const program of group) program.fail(refusal.error)
        return
      }
      if (beganAt !== undefined) this.#options.groupDurable?.(performance.now() - beganAt, group.length)
      onDurable?.()
      for (const program of group) program.succeed(program.result as never)
    }
    if (sync?.isNeeded() !== true) return finish()
    const syncedAt = performance.now()
    const syncsInBackground =
      beganAt !== undefined && this.#syncMs > SLOW_MS && ++this.#slowDiskSyncs % MEASURED_EVERY !== 0
    if (!syncsInBackground) {
      try {
        sync.syncNow()
      } catch (error) {
        return finish({ error: this.#refused(error) })
      }
      this.#syncMs = performance.now() - syncedAt
      return finish()
    }
    this.#finishGroup = finish
    const timer = setTimeout(() => this.#waitForDisk(), MAX_BACKGROUND_MS)
    sync.syncInBackground((error) => {
      clearTimeout(timer)
      this.#syncMs = performance.now() - syncedAt
      // `#waitForDisk` has already ended the group
      if (this.#finishGroup !== finish) return
      this.#diskIsDone(error == null ? undefined : { error: this.#refused(error) })
    })
  }

  /** The error for the callers when the disk has refused a commit. */
  #refused(error: unknown): unknown {
    return this.#options.diskRefused?.(error) ?? error
  }

  #diskIsDone(refusal?: { readonly error: unknown }): void {
    const finish = this.#finishGroup
    const callbacks = this.#afterSync
    this.#finishGroup = undefined
    this.#afterSync = []
    finish?.(refusal)
    for (const f of callbacks) f(refusal)
    if (this.#queue.length > 0) this.#schedule()
  }

  /** Blocks until the disk has stored the group that it is storing, if any. */
  #waitForDisk(): void {
    if (this.#finishGroup === undefined) return
    try {
      this.#options.sync?.syncNow()
    } catch (error) {
      return this.#diskIsDone({ error: this.#refused(error) })
    }
    this.#diskIsDone()
  }
}
