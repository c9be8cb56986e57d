/** Those who listen to the commits of a store. */
import type { StoreError } from "../../Errors.ts"
import type { Changes } from "./Changes.ts"
import type { ListenOptions } from "./Store.ts"
import type { Interest } from "./Transaction.ts"

export class Listeners {
  /** Says that somebody has failed with what it did: the commit stands, and whoever waits for it wakes. */
  readonly #failed: (what: string, error: unknown) => void
  /** What programs go by: it is kept up with what is listened to. */
  interest: Interest = { runs: false, steps: false, states: false }
  readonly #commits = new Set<{
    readonly listener: (changes: Changes) => void
    readonly wants: ListenOptions
  }>()
  readonly #ready = new Set<() => void>()
  readonly #losses = new Set<(error: StoreError) => void>()
  /** Why nothing is read or written any more. */
  #lost: StoreError | undefined

  constructor(failed: (what: string, error: unknown) => void) {
    this.#failed = failed
  }

  readonly onCommit = (listener: (changes: Changes) => void, wants: ListenOptions = {}): (() => void) => {
    const one = { listener, wants }
    this.#commits.add(one)
    this.#ask()
    return () => {
      this.#commits.delete(one)
      this.#ask()
    }
  }

  readonly onReady = (listener: () => void): (() => void) => {
    this.#ready.add(listener)
    return () => void this.#ready.delete(listener)
  }

  readonly onLost = (listener: (error: StoreError) => void): (() => void) => {
    if (this.#lost === undefined) this.#losses.add(listener)
    else listener(this.#lost)
    return () => void this.#losses.delete(listener)
  }

  get lost(): StoreError | undefined {
    return this.#lost
  }

  /** Tells of a commit: those who look on hear of it before somebody acts on it. */
  committed(changes: Changes): void {
    for (const { listener, wants } of this.#commits) {
      if (wants.activity !== undefined) this.#careful("look at a commit", () => listener(changes))
    }
    for (const { listener, wants } of this.#commits) {
      if (wants.activity === undefined) this.#careful("act on a commit", () => listener(changes))
    }
  }

  /** Tells within a transaction that runs have become ready. */
  ready(): void {
    for (const listener of this.#ready) this.#careful("hand out what is ready", listener)
  }

  /** Tells that the database is another engine's; says whether that was not known. */
  lose(error: StoreError): boolean {
    if (this.#lost !== undefined) return false
    this.#lost = error
    for (const listener of this.#losses) this.#careful("stop what runs", () => listener(error))
    return true
  }

  #ask(): void {
    const wanted = [...this.#commits].map(({ wants }) => wants)
    this.interest.runs = wanted.some(({ activity }) => activity !== undefined)
    this.interest.steps = wanted.some(({ activity }) => activity === "steps")
    this.interest.states = wanted.some(({ states }) => states === true)
  }

  #careful(what: string, run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#failed(what, error)
    }
  }
}
