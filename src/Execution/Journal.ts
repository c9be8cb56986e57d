/**
 * What a turn knows of its run at the start: the journal and the open steps. Each entry of the journal is the outcome
 * of a step call or of a compensation. A step call takes its entry out. The entries that are left at the end belong to
 * compensations, and to steps that the handler did not call in this turn.
 */
import type { Job, JournalEntry, OpenStep, Outcome } from "../Protocol/Worker.ts"
import { isAtRoot } from "../StepId.ts"

/** An entry, with its index in the journal. */
export interface RecordedEntry {
  readonly entry: JournalEntry
  readonly index: number
}

/** An open step that the engine has resumed before the handler reached it. If the step has no outcome, its next attempt is due. */
export interface EarlyFiring {
  readonly outcome: Outcome | undefined
}

export class Journal {
  /** The entries of steps that the handler has not called yet. */
  readonly #recorded: Map<string, RecordedEntry>
  readonly #open: Map<string, OpenStep>
  /** The steps that an earlier turn left open and that the handler has not reached yet. */
  readonly #unreached: Set<string>
  readonly #earlyFirings: Map<string, EarlyFiring>

  constructor({ journal, open }: Pick<Job, "journal" | "open">) {
    this.#recorded = journal.length === 0 ? emptyMap : new Map()
    for (const [index, entry] of journal.entries()) this.#recorded.set(entry.stepKey, { entry, index })
    this.#open = open.length === 0 ? emptyMap : new Map()
    this.#unreached = open.length === 0 ? emptySet : new Set()
    this.#earlyFirings = open.length === 0 ? emptyMap : new Map()
    for (const step of open) {
      this.#open.set(step.stepKey, step)
      this.#unreached.add(step.stepKey)
    }
  }

  /** Whether the journal still has an entry for the step. */
  has(key: string): boolean {
    return this.#recorded.has(key)
  }

  /** Whether the step began in an earlier turn. */
  knows(key: string): boolean {
    return this.#recorded.has(key) || this.#open.has(key)
  }

  /** Returns the entry of a step, and removes it. */
  take(key: string): RecordedEntry | undefined {
    if (this.#recorded.size === 0) return undefined
    const recorded = this.#recorded.get(key)
    if (recorded !== undefined) this.#recorded.delete(key)
    return recorded
  }

  /** The step, if it was open before this turn. */
  openStep(key: string): OpenStep | undefined {
    return this.#open.get(key)
  }

  /** Returns what {@link openStep} returns, and notes that the handler has reached the step. */
  reach(key: string): OpenStep | undefined {
    this.#unreached.delete(key)
    return this.#open.get(key)
  }

  /**
   * Notes that the engine has resumed a step that the handler has not reached yet. Ignored for a step that was not
   * open at the start.
   */
  fireEarly(key: string, outcome: Outcome | undefined): void {
    if (this.#open.has(key)) this.#earlyFirings.set(key, { outcome })
  }

  earlyFiring(key: string): EarlyFiring | undefined {
    return this.#earlyFirings.get(key)
  }

  /** Whether earlier turns left steps open that the handler has not reached yet. */
  get hasUnreachedSteps(): boolean {
    return this.#unreached.size > 0
  }

  /**
   * Names of the steps that earlier turns have begun and that this turn has not called. Steps in branches are included
   * only if the handler has `completed`: before that, the handler may still call them when other branches have ended.
   */
  uncalled(completed: boolean): ReadonlyArray<string> {
    if (this.#recorded.size === 0 && this.#unreached.size === 0) return []
    const steps: Array<JournalEntry | OpenStep> = Array.from(this.#recorded.values(), ({ entry }) => entry)
    for (const [key, open] of this.#open) if (this.#unreached.has(key)) steps.push(open)
    return steps
      .filter(({ kind, stepKey }) => kind !== "compensate" && (completed || isAtRoot(stepKey)))
      .map(({ name }) => name)
  }
}

/**
 * For turns without a journal or open steps, such as the first turn of a run. Nothing is ever added to these
 * collections.
 */
const emptyMap = new Map<string, never>()
const emptySet = new Set<string>()
