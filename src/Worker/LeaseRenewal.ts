/**
 * Renews the leases of the turns that a worker runs, and knows how long they certainly hold, independent of the
 * engine. Times are milliseconds of a monotonic clock.
 */
import type * as Clock from "effect/Clock"
import * as Turns from "../Protocol/Http/Turns.ts"
import { reportAfterMs, type RunningTurn } from "../Protocol/RunningSteps.ts"
import type { LeaseFreshness } from "../Protocol/Worker.ts"
import { monotonicMs } from "./ServerLink.ts"

interface LeaseRenewalOptions {
  readonly clock: Clock.Clock
  /** The terms of the last registration. */
  readonly terms: () => Pick<Turns.RegisterTurnsResponse, "capabilities" | "leaseMs">
  /** Whether a turn of the job runs, or is being reported. */
  readonly holds: (jobId: string) => boolean
  /** The steps whose code has run for at least this long. */
  readonly running: (atLeastMs: number) => ReadonlyArray<RunningTurn>
  /** Sends a renewal that the engine answers at once. */
  readonly renewNow: () => void
}

export class LeaseRenewal {
  readonly #options: LeaseRenewalOptions
  /** Turns whose lease this worker holds. */
  readonly active = new Set<string>()
  /** Whether a job was dropped and the engine has not been told. */
  hasDropped = false
  /** When the last answered renewal was sent. */
  #heldSince: number
  /** When the last renewal was sent. */
  #renewedAt: number
  /** Callbacks that wait for an answer to a renewal. */
  #awaitingRenewal: Array<() => void> = []

  constructor(sentAt: number, options: LeaseRenewalOptions) {
    this.#options = options
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
  }

  get #now(): number {
    return monotonicMs(this.#options.clock)
  }

  /** The worker has registered: the registration, sent at `sentAt`, names the held jobs and so renews their leases. */
  registered(sentAt: number): void {
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
  }

  /** The jobs that are still held. Others are forgotten, and their leases end. */
  list(): ReadonlyArray<string> {
    for (const jobId of this.active) if (!this.#options.holds(jobId)) this.active.delete(jobId)
    return [...this.active]
  }

  /** The fields of a request that renew the leases; empty when no renewal is due and nothing waits for one. */
  renewal(): string {
    const now = this.#now
    const { capabilities, leaseMs } = this.#options.terms()
    if (capabilities.renewals !== true) return ""
    const isDue = this.hasDropped || this.awaitsRenewal || now - this.#renewedAt >= leaseMs / 10
    this.hasDropped = false
    if (!isDue) return ""
    this.#renewedAt = now
    const holding = `,"holding":${JSON.stringify(this.list())}`
    const running = this.active.size === 0 ? [] : this.#options.running(reportAfterMs)
    return running.length === 0 ? holding : `${holding},"running":${JSON.stringify(running)}`
  }

  /** A request with this {@link renewal}, sent at `sentAt`, was answered: the leases hold from that time. */
  held(sentAt: number, renewal: string): void {
    if (renewal === "" && this.#options.terms().capabilities.renewals === true) return
    this.#heldSince = Math.max(this.#heldSince, sentAt)
    this.notifyRenewed()
  }

  /**
   * A lease counts as recent for a quarter of its term. Even after half a term in the code of a step, enough remains
   * for one more renewal. Renewals are so frequent that a lease is nearly always recent.
   */
  readonly freshness: LeaseFreshness = {
    isRecent: () => this.#isRecent(this.#heldSince),
    renew: (then) => {
      this.#awaitingRenewal.push(then)
      if (this.#awaitingRenewal.length === 1) this.#options.renewNow()
    }
  }

  /** Whether a callback waits for an answer to a renewal. */
  get awaitsRenewal(): boolean {
    return this.#awaitingRenewal.length > 0
  }

  #isRecent(at: number): boolean {
    return this.#now - at < this.#options.terms().leaseMs / 4
  }

  /** Calls the waiting callbacks, once the leases are recent. */
  notifyRenewed(): void {
    if (!this.awaitsRenewal) return
    if (!this.freshness.isRecent()) {
      // this answers a renewal from before the process was busy
      if (!this.#isRecent(this.#renewedAt)) this.#options.renewNow()
      return
    }
    const waiting = this.#awaitingRenewal
    this.#awaitingRenewal = []
    for (const then of waiting) then()
  }

  /**
   * How long a lease certainly holds, in milliseconds. Engines that extend leases themselves guarantee two thirds of
   * the term from the arrival of a request.
   */
  get safeMs(): number {
    const { capabilities, leaseMs } = this.#options.terms()
    return capabilities.renewals === true ? Turns.safeTermMs(leaseMs) : leaseMs * 0.6
  }

  /** How much longer the leases certainly hold, in milliseconds. */
  get safeLeftMs(): number {
    return this.#heldSince + this.safeMs - this.#now
  }
}
