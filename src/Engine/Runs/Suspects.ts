/**
 * Suspects: runs that were lost again and again with their workers, one of which may be what kills these.
 *
 * Runs that were together when a worker died have all lost it, and it cannot be seen which of them is to blame. So they are
 * tried apart: the more often a run was lost, the fewer other suspects a worker may hold beside it, in the end none. An
 * innocent run gets past the step that was lost, and is no suspect any more; the one to blame is left alone, and only a run
 * that was alone when it was lost for the last time is paused. Runs that are no suspects are handed out as ever.
 */
import { remembered } from "../Store/Memory.ts"
import { statement, type Program, write, get } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** Losses without a new journal entry that make a run a suspect: after the first one it may have been anything. */
export const SUSPECT_FROM = 2

/** How long a suspect that runs keeps others away: one with a long step must not do so for as long as that takes. */
const TRIAL_MS = 60_000

interface Held {
  readonly workerId: string
  readonly losses: number
  /** Since when, epoch milliseconds. */
  readonly since: number
}

/** How many suspects a worker with `capacity` may hold when one of them has so many losses: a quarter after each. */
const mostTogether = (losses: number, capacity: number): number =>
  Math.max(1, Math.floor(Math.max(32, capacity) / 4 ** (losses - 1)))

/** The suspects that hold a lease now, by the keys of the runs. In memory only: what is missing is tried less apart. */
class Suspects {
  readonly #held = new Map<number, Held>()
  /** Those of the transaction that runs. */
  readonly #new = new Map<number, Held>()

  get isEmpty(): boolean {
    return this.#held.size === 0 && this.#new.size === 0
  }

  begin(): void {
    this.#new.clear()
  }

  committed(): void {
    for (const [run, held] of this.#new) this.#held.set(run, held)
    this.#new.clear()
  }

  /** A worker holds this suspect. Returns when others may join it, whatever comes of it. */
  hold(run: number, workerId: string, losses: number, now: number): number {
    this.#new.set(run, { workerId, losses, since: this.#held.get(run)?.since ?? now })
    return now + TRIAL_MS
  }

  /** The run is no suspect any more, or nobody holds it; says whether it was one. A rollback does no harm. */
  release(run: number): boolean {
    return this.#new.delete(run) || this.#held.delete(run)
  }

  /** Whether the worker may hold one with so many losses beside those that it has. */
  hasRoom(workerId: string, capacity: number, losses: number, now: number): boolean {
    let most = mostTogether(losses, capacity)
    let beside = 0
    for (const held of this.#all()) {
      if (held.workerId !== workerId || isOver(held, now)) continue
      beside++
      most = Math.min(most, mostTogether(held.losses, capacity))
    }
    return beside < most
  }

  /** Whether the run was handed out so long ago that others may be beside it. */
  isPastTrial(run: number, now: number): boolean {
    const held = this.#held.get(run)
    return held !== undefined && isOver(held, now)
  }

  /** Whether others may join one of them that kept them away at first. */
  hasOver(now: number): boolean {
    for (const held of this.#all()) if (isOver(held, now)) return true
    return false
  }

  /** When others may join the next one of them, epoch milliseconds. */
  nextOverAt(now: number): number {
    let next = Number.POSITIVE_INFINITY
    for (const held of this.#all()) if (!isOver(held, now)) next = Math.min(next, held.since + TRIAL_MS)
    return next
  }

  /** Those that others may join, and who holds them. */
  over(now: number): ReadonlyArray<readonly [run: number, workerId: string]> {
    return [...this.#held].flatMap(([run, held]) =>
      isOver(held, now) ? [[run, held.workerId] as const] : []
    )
  }

  *#all(): Iterable<Held> {
    yield* this.#held.values()
    yield* this.#new.values()
  }
}

const isOver = ({ since }: Held, now: number): boolean => now - since >= TRIAL_MS

export const suspectsOf = remembered<Suspects>({
  make: () => new Suspects(),
  begin: (suspects) => suspects.begin(),
  committed: (suspects) => suspects.committed()
})

const HOLDER = statement("Suspects.holder", "SELECT worker FROM runs WHERE key = ? AND lease IS NOT NULL")

/** Another engine may have ended the lease of a suspect whose worker went over to it: forgets those. */
export function* forgetSuspectsElsewhere(tx: Transaction): Program<void> {
  if (tx.node === undefined) return
  const suspects = suspectsOf(tx)
  for (const [run, workerId] of suspects.over(tx.now())) {
    if ((yield* get(HOLDER, run))?.worker !== workerId) suspects.release(run)
  }
}

const SUSPICION = statement("Suspects.suspicion", "UPDATE runs SET losses = 0 WHERE key = ?")

/** How often a suspect was lost; 0 for a run that is none. */
export function* suspicion(row: Row): Program<number> {
  const losses = Number(row.losses)
  if (losses < SUSPECT_FROM) return 0
  // while it was in no turn, a wait may have brought it further
  if ((yield* lastSeq(Number(row.key))) <= Number(row.loss_seq)) return losses
  yield* write(SUSPICION, row.key!)
  return 0
}

const LAST_SEQ = statement("Suspects.lastSeq", "SELECT max(seq) AS seq FROM steps WHERE run = ?")

export function* lastSeq(run: number): Program<number> {
  return Number((yield* get(LAST_SEQ, run))?.seq ?? 0)
}
