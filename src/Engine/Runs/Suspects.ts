/**
 * Suspects: runs that were lost repeatedly with their workers. One of them may be what kills the workers.
 *
 * When a worker dies, all of its runs are lost, and nothing shows which one is to blame. So suspects are kept apart: the more
 * often a run was lost, the fewer other suspects its worker may hold, and in the end none. An innocent run gets past the step at
 * which it was lost, and is then no suspect any more. The run to blame ends up alone. Only a run that was alone when it was lost
 * for the last time is paused. Runs that are not suspects are dispatched as usual.
 */
import { defineCache } from "../Store/Cache.ts"
import { statement, type Program, write, get } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** How many losses without a new journal entry make a run a suspect. A first loss may have any cause. */
export const SUSPECT_FROM = 2

/**
 * For how many milliseconds a running suspect keeps other suspects away from its worker. A long step must not keep them away
 * until it ends.
 */
const TRIAL_MS = 60_000

interface HeldSuspect {
  readonly workerId: string
  readonly losses: number
  /** When the suspect was claimed, in epoch milliseconds. */
  readonly since: number
}

/**
 * How many suspects a worker with `capacity` may hold when one of them has this many losses. Each further loss divides the number
 * by four.
 */
const maxSuspects = (losses: number, capacity: number): number =>
  Math.max(1, Math.floor(Math.max(32, capacity) / 4 ** (losses - 1)))

/**
 * The suspects that hold a lease now, by run key. They are in memory only: if a suspect is missing here, more suspects may run
 * together with it.
 */
class Suspects {
  readonly #held = new Map<number, HeldSuspect>()
  /** The suspects that were claimed in the current transaction. */
  readonly #newlyHeld = new Map<number, HeldSuspect>()

  get isEmpty(): boolean {
    return this.#held.size === 0 && this.#newlyHeld.size === 0
  }

  begin(): void {
    this.#newlyHeld.clear()
  }

  committed(): void {
    for (const [run, held] of this.#newlyHeld) this.#held.set(run, held)
    this.#newlyHeld.clear()
  }

  /** Notes that a worker holds this suspect. Returns when the suspect will no longer keep others away, in epoch milliseconds. */
  hold(run: number, workerId: string, losses: number, now: number): number {
    const since = this.#held.get(run)?.since ?? now
    this.#newlyHeld.set(run, { workerId, losses, since })
    return since + TRIAL_MS
  }

  /**
   * Removes a run that is no longer a suspect, or no longer held. Returns whether the run was there. This takes effect at once: a
   * rollback of the transaction does no harm.
   */
  release(run: number): boolean {
    const wasNew = this.#newlyHeld.delete(run)
    return this.#held.delete(run) || wasNew
  }

  /** Whether the worker may hold one more suspect, with this many losses, beside those that it holds. */
  hasRoom(workerId: string, capacity: number, losses: number, now: number): boolean {
    let limit = maxSuspects(losses, capacity)
    let count = 0
    for (const suspect of this.#all()) {
      if (suspect.workerId !== workerId || isPastTrialTime(suspect, now)) continue
      count++
      limit = Math.min(limit, maxSuspects(suspect.losses, capacity))
    }
    return count < limit
  }

  /** Whether the run was claimed so long ago that other suspects may join it. */
  isPastTrial(run: number, now: number): boolean {
    const suspect = this.#held.get(run)
    return suspect !== undefined && isPastTrialTime(suspect, now)
  }

  /** Whether any suspect was claimed so long ago that it no longer keeps other suspects away. */
  hasPastTrial(now: number): boolean {
    for (const suspect of this.#all()) if (isPastTrialTime(suspect, now)) return true
    return false
  }

  /** When the next suspect stops keeping others away, in epoch milliseconds. */
  nextTrialEndAt(now: number): number {
    let next = Number.POSITIVE_INFINITY
    for (const suspect of this.#all())
      if (!isPastTrialTime(suspect, now)) next = Math.min(next, suspect.since + TRIAL_MS)
    return next
  }

  /** The suspects that no longer keep other suspects away, and their workers. */
  suspectsPastTrial(now: number): ReadonlyArray<readonly [run: number, workerId: string]> {
    return [...this.#held].flatMap(([run, held]) =>
      isPastTrialTime(held, now) ? [[run, held.workerId] as const] : []
    )
  }

  *#all(): Iterable<HeldSuspect> {
    for (const [run, suspect] of this.#held) if (!this.#newlyHeld.has(run)) yield suspect
    yield* this.#newlyHeld.values()
  }
}

const isPastTrialTime = ({ since }: HeldSuspect, now: number): boolean => now - since >= TRIAL_MS

export const suspectsOf = defineCache<Suspects>({
  make: () => new Suspects(),
  begin: (suspects) => suspects.begin(),
  committed: (suspects) => suspects.committed()
})

const FIND_WORKER = statement(
  "Suspects.findWorker",
  "SELECT worker FROM runs WHERE key = ? AND lease IS NOT NULL"
)

/**
 * Removes suspects that their worker no longer holds because another engine has ended the lease. Looks only at suspects that no
 * longer keep other suspects away.
 */
export function* forgetSuspectsElsewhere(tx: Transaction): Program<void> {
  if (tx.node === undefined) return
  const suspects = suspectsOf(tx)
  for (const [run, workerId] of suspects.suspectsPastTrial(tx.now())) {
    if ((yield* get(FIND_WORKER, run))?.worker !== workerId) suspects.release(run)
  }
}

const CLEAR_LOSSES = statement("Suspects.clearLosses", "UPDATE runs SET losses = 0 WHERE key = ?")

/**
 * Returns how often a suspect was lost, and 0 for a run that is no suspect. A suspect that has advanced since its last loss
 * becomes innocent: its losses are cleared.
 */
export function* refreshLosses(row: Row): Program<number> {
  const losses = Number(row.losses)
  if (losses < SUSPECT_FROM) return 0
  // a wait that fired may have advanced the run without a worker
  if ((yield* lastSeq(Number(row.key))) <= Number(row.loss_seq)) return losses
  yield* write(CLEAR_LOSSES, row.key!)
  return 0
}

/** Notes that the run has advanced: it is no longer a suspect, and its worker may take other suspects. */
export function* clearSuspicion(tx: Transaction, run: number): Program<void> {
  if (!suspectsOf(tx).release(run)) return
  yield* write(CLEAR_LOSSES, run)
  tx.changes.ready = true
}

const FIND_LAST_SEQ = statement("Suspects.findLastSeq", "SELECT max(seq) AS seq FROM steps WHERE run = ?")

export function* lastSeq(run: number): Program<number> {
  return Number((yield* get(FIND_LAST_SEQ, run))?.seq ?? 0)
}
