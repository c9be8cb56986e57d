/**
 * What a turn knows of its run before it begins: the journal, and the steps that are open. Every entry answers one call of the
 * handler; what is left when the turn is over was never asked for.
 */
import type { Job, JournalEntry, OpenStep, Outcome } from "../Protocol/Worker.ts"
import { isAtRoot } from "../StepId.ts"

/** An entry and its place in the journal. */
export interface Recorded {
  readonly entry: JournalEntry
  readonly rank: number
}

/** A wait that was over before the handler came to it. Without an outcome the step's next attempt begins. */
export interface FiredEarly {
  readonly outcome: Outcome | undefined
}

export class Journal {
  /** Entries that the handler has not asked for yet. */
  readonly #recorded: Map<string, Recorded>
  readonly #open: Map<string, OpenStep>
  /** Those of the open steps that the handler has not come to again. */
  readonly #ahead: Set<string>
  readonly #firedEarly: Map<string, FiredEarly>

  constructor({ journal, open }: Pick<Job, "journal" | "open">) {
    this.#recorded = journal.length === 0 ? noMap : new Map()
    for (const [rank, entry] of journal.entries()) this.#recorded.set(entry.stepKey, { entry, rank })
    this.#open = open.length === 0 ? noMap : new Map()
    this.#ahead = open.length === 0 ? noSet : new Set()
    this.#firedEarly = open.length === 0 ? noMap : new Map()
    for (const step of open) {
      this.#open.set(step.stepKey, step)
      this.#ahead.add(step.stepKey)
    }
  }

  /** Whether the journal has the step, and nobody has taken its entry. */
  has(key: string): boolean {
    return this.#recorded.has(key)
  }

  /** Whether the step has begun in an earlier turn. */
  knows(key: string): boolean {
    return this.#recorded.has(key) || this.#open.has(key)
  }

  /** The journal's entry, once. */
  take(key: string): Recorded | undefined {
    if (this.#recorded.size === 0) return undefined
    const recorded = this.#recorded.get(key)
    if (recorded !== undefined) this.#recorded.delete(key)
    return recorded
  }

  /** A step that was open before this turn. */
  open(key: string): OpenStep | undefined {
    return this.#open.get(key)
  }

  /** {@link open}, to which the handler has come again. */
  reach(key: string): OpenStep | undefined {
    this.#ahead.delete(key)
    return this.#open.get(key)
  }

  /** A wait is over that nobody has asked for. One that was not open is none of this turn's. */
  fireEarly(key: string, outcome: Outcome | undefined): void {
    if (this.#open.has(key)) this.#firedEarly.set(key, { outcome })
  }

  firedEarly(key: string): FiredEarly | undefined {
    return this.#firedEarly.get(key)
  }

  /** Whether an earlier turn left steps open that the handler has not come to again. */
  get isAhead(): boolean {
    return this.#ahead.size > 0
  }

  /**
   * Names of steps that earlier turns have begun and this one has not asked for. As long as the handler waits, it may come to the
   * steps of a branch when others have made room for it; once it has `completed` they count as well.
   */
  unasked(completed: boolean): ReadonlyArray<string> {
    if (this.#recorded.size === 0 && this.#ahead.size === 0) return []
    const steps: Array<JournalEntry | OpenStep> = Array.from(this.#recorded.values(), ({ entry }) => entry)
    for (const [key, open] of this.#open) if (this.#ahead.has(key)) steps.push(open)
    return steps
      .filter(({ kind, stepKey }) => kind !== "compensate" && (completed || isAtRoot(stepKey)))
      .map(({ name }) => name)
  }
}

/** Most turns are the first of their run, and have neither a journal nor open steps: nothing is ever put into these. */
const noMap = new Map<string, never>()
const noSet = new Set<string>()
