/**
 * The leases of the turns that a worker runs: it renews them, and knows how long they are sure to hold, whatever the engine may think.
 * Times are those of a monotonic clock, milliseconds.
 */
import type * as Clock from "effect/Clock"
import * as Turns from "../Protocol/Http/Turns.ts"
import { type RunningTurn, tellAfterMs } from "../Protocol/RunningSteps.ts"
import type { Touch } from "../Protocol/Worker.ts"
import { monotonicMs } from "./ServerLink.ts"

interface HeldLeasesOptions {
  readonly clock: Clock.Clock
  /** What was agreed when the worker was registered last. */
  readonly terms: () => Pick<Turns.RegisterTurnsResponse, "capabilities" | "leaseMs">
  /** Whether somebody works on a job, or reports it. */
  readonly holds: (jobId: string) => boolean
  /** The steps whose code has run for so long or longer. */
  readonly running: (atLeastMs: number) => ReadonlyArray<RunningTurn>
  /** Sends a renewal that is answered at once. */
  readonly renewNow: () => void
}

export class LeaseRenewal {
  readonly #options: HeldLeasesOptions
  /** Turns whose lease this worker holds. */
  readonly active = new Set<string>()
  /** Somebody waits to hear that it has dropped a job. */
  hasDropped = false
  /** When the last renewal was sent that was answered. */
  #heldSince: number
  /** When a renewal was last sent. */
  #renewedAt: number
  /** Those who wait for an answer to a renewal. */
  #awaitingTouch: Array<() => void> = []

  constructor(sentAt: number, options: HeldLeasesOptions) {
    this.#options = options
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
  }

  get #now(): number {
    return monotonicMs(this.#options.clock)
  }

  /** The registration that was sent then names what is held. */
  registered(sentAt: number): void {
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
  }

  /** The turns that it works on. A job that nobody works on is forgotten, and its lease is let go. */
  list(): ReadonlyArray<string> {
    for (const jobId of this.active) if (!this.#options.holds(jobId)) this.active.delete(jobId)
    return [...this.active]
  }

  /** The fields of a request that renew the leases, if it is time to do so, or somebody waits for what it says. */
  renewal(): string {
    const now = this.#now
    const { capabilities, leaseMs } = this.#options.terms()
    if (capabilities.renewals !== true) return ""
    const isDue = this.hasDropped || this.awaitsTouch || now - this.#renewedAt >= leaseMs / 10
    this.hasDropped = false
    if (!isDue) return ""
    this.#renewedAt = now
    const holding = `,"holding":${JSON.stringify(this.list())}`
    const running = this.active.size === 0 ? [] : this.#options.running(tellAfterMs)
    return running.length === 0 ? holding : `${holding},"running":${JSON.stringify(running)}`
  }

  /** A request that was sent then with this {@link renewal} has been answered: the leases hold from then on. */
  held(sentAt: number, renewal: string): void {
    if (renewal === "" && this.#options.terms().capabilities.renewals === true) return
    this.#heldSince = Math.max(this.#heldSince, sentAt)
    this.touched()
  }

  /**
   * A quarter of the term, and half of it in the code of a step, leave enough of it to renew once more. Renewals go out so often
   * that the first is nearly always there.
   */
  readonly touch: Touch = {
    isRecent: () => this.#isRecent(this.#heldSince),
    renew: (then) => {
      this.#awaitingTouch.push(then)
      if (this.#awaitingTouch.length === 1) this.#options.renewNow()
    }
  }

  /** Whether somebody waits for an answer to a renewal. */
  get awaitsTouch(): boolean {
    return this.#awaitingTouch.length > 0
  }

  #isRecent(at: number): boolean {
    return this.#now - at < this.#options.terms().leaseMs / 4
  }

  /** The leases have been renewed. */
  touched(): void {
    if (!this.awaitsTouch) return
    if (!this.touch.isRecent()) {
      // the answer is that of a renewal from before the process was busy
      if (!this.#isRecent(this.#renewedAt)) this.#options.renewNow()
      return
    }
    const waiting = this.#awaitingTouch
    this.#awaitingTouch = []
    for (const then of waiting) then()
  }

  /** Engines that extend leases by themselves promise two thirds from the arrival of a request on. */
  get safeMs(): number {
    const { capabilities, leaseMs } = this.#options.terms()
    return capabilities.renewals === true ? Turns.safeTermMs(leaseMs) : leaseMs * 0.6
  }

  /** How long the leases are sure to hold from now on. */
  get safeLeftMs(): number {
    return this.#heldSince + this.safeMs - this.#now
  }
}
