/** The listeners of a store: to commits, to ready runs, to possible takeovers by other engines, and to the loss of the store. */
import type { StoreError } from "../../Errors.ts"
import type { Changes } from "./Changes.ts"
import type { Gate, ListenOptions, Wants } from "./Store.ts"
import type { Interest } from "./Transaction.ts"

export class Listeners {
  /** Reports that a listener threw. The commit stands all the same, and the callers that wait for it are woken. */
  readonly #reportFailure: (what: string, error: unknown) => void
  /** Which changes a transaction has to collect, because a listener of this engine or of another engine wants them. */
  interest: Interest = { runs: false, steps: false, states: false }
  readonly #commitListeners = new Set<{
    readonly listener: (changes: Changes) => void
    readonly wants: ListenOptions
  }>()
  readonly #readyListeners = new Set<() => void>()
  /** What the listeners of other engines want to be told by this engine. */
  #wantedElsewhere: Wants = { steps: false, states: false }
  /** Called when `wants` may have changed. */
  onWants: () => void = () => undefined
  readonly #takeoverListeners = new Set<() => void>()
  readonly #lossListeners = new Set<(error: StoreError) => void>()
  /** Why the store neither reads nor writes any more. */
  #lost: StoreError | undefined

  /** While the gate is shut, listeners are not told of commits. `undefined` where only one engine uses the database. */
  #gate: Gate | undefined
  /** Commits that wait for the gate. */
  #heldCommits: Array<Changes> | undefined

  constructor(failed: (what: string, error: unknown) => void) {
    this.#reportFailure = failed
  }

  readonly onCommit = (listener: (changes: Changes) => void, wants: ListenOptions = {}): (() => void) => {
    const added = { listener, wants }
    const update = (): void => {
      this.#updateInterest()
      if (wants.activity === "steps" || wants.states === true) this.onWants()
    }
    this.#commitListeners.add(added)
    update()
    return () => {
      this.#commitListeners.delete(added)
      update()
    }
  }

  readonly onReady = (listener: () => void): (() => void) => {
    this.#readyListeners.add(listener)
    return () => void this.#readyListeners.delete(listener)
  }

  readonly onPossibleTakeover = (listener: () => void): (() => void) => {
    this.#takeoverListeners.add(listener)
    return () => void this.#takeoverListeners.delete(listener)
  }

  readonly onLost = (listener: (error: StoreError) => void): (() => void) => {
    if (this.#lost === undefined) this.#lossListeners.add(listener)
    else listener(this.#lost)
    return () => void this.#lossListeners.delete(listener)
  }

  /** What the listeners of this engine want to be told by other engines. */
  get wants(): Wants {
    const wanted = [...this.#commitListeners].map(({ wants }) => wants)
    return {
      steps: wanted.some(({ activity }) => activity === "steps"),
      states: wanted.some(({ states }) => states === true)
    }
  }

  /** What the listeners of other engines want to be told by this engine. */
  set wantedElsewhere(wants: Wants) {
    this.#wantedElsewhere = wants
    this.#updateInterest()
  }

  get wantedElsewhere(): Wants {
    return this.#wantedElsewhere
  }

  /** Whether the worker is connected to this engine. If not, notices for its turns have to be sent to the other engines. */
  isConnectedHere(workerId: string): boolean {
    for (const { wants } of this.#commitListeners) if (wants.isConnectedHere?.(workerId) === true) return true
    return false
  }

  get lost(): StoreError | undefined {
    return this.#lost
  }

  readonly setGate = (gate: Gate): void => void (this.#gate = gate)

  /** Tells the listeners about a commit. Commits are told in the order of these calls, and wait while the gate is shut. */
  committed(changes: Changes): void {
    if (this.#heldCommits !== undefined) return void this.#heldCommits.push(changes)
    if (this.#gate?.isShut() !== true) return this.#tell(changes)
    this.#heldCommits = [changes]
    void this.#gate.open().then(() => {
      const held = this.#heldCommits ?? []
      this.#heldCommits = undefined
      for (const heldChanges of held) this.#tell(heldChanges)
    })
  }

  /** Tells observers (listeners that want `activity`) before the services. */
  #tell(changes: Changes): void {
    for (const { listener, wants } of this.#commitListeners) {
      if (wants.activity !== undefined)
        this.#callGuarded("tell an observer of a commit", () => listener(changes))
    }
    for (const { listener, wants } of this.#commitListeners) {
      if (wants.activity === undefined)
        this.#callGuarded("tell a service of a commit", () => listener(changes))
    }
  }

  /** Tells the listeners that runs have become ready. Called within a transaction. */
  tellReady(): void {
    for (const listener of this.#readyListeners) this.#callGuarded("hand out ready runs", listener)
  }

  /** Tells the listeners that other engines may have taken over what this engine held. */
  tellPossibleTakeover(): void {
    for (const listener of this.#takeoverListeners)
      this.#callGuarded("give up work that other engines may have taken over", listener)
  }

  /**
   * Tells the listeners that the store has stopped for good: another engine owns the database, or the disk has refused a sync.
   * Returns `false` when they were told before.
   */
  lose(error: StoreError): boolean {
    if (this.#lost !== undefined) return false
    this.#lost = error
    for (const listener of this.#lossListeners)
      this.#callGuarded("stop the running turns", () => listener(error))
    return true
  }

  #updateInterest(): void {
    const { states, steps } = this.wants
    this.interest.runs = [...this.#commitListeners].some(({ wants: { activity } }) => activity !== undefined)
    this.interest.steps = steps || this.#wantedElsewhere.steps
    this.interest.states = states || this.#wantedElsewhere.states
  }

  /** Calls a listener, and reports what it throws. `what` completes "Could not ..." in the log line. */
  #callGuarded(what: string, run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#reportFailure(what, error)
    }
  }
}
