/**
 * Renews the leases of the turns that a worker runs, and computes how long the leases certainly hold if the engine
 * does not answer any more. Times are milliseconds of a monotonic clock.
 */
import type * as Clock from "effect/Clock"
import * as Turns from "../Protocol/Http/Turns.ts"
import { REPORT_AFTER_MS, type RunningTurn } from "../Protocol/RunningSteps.ts"
import type { LeaseFreshness } from "../Protocol/Worker.ts"
import { monotonicMs } from "./ServerLink.ts"

interface LeaseRenewalOptions {
  readonly clock: Clock.Clock
  /** The answer to the last registration. */
  readonly terms: () => Pick<Turns.RegisterTurnsResponse, "capabilities" | "leaseMs">
  /** Whether a turn of the job runs, or its end is being reported. */
  readonly holds: (jobId: string) => boolean
  /** The turns with the steps whose code has run for at least this many milliseconds. */
  readonly runningTurns: (atLeastMs: number) => ReadonlyArray<RunningTurn>
  /** Sends a renewal that the engine answers at once. */
  readonly renewNow: () => void
}

export class LeaseRenewal {
  readonly #options: LeaseRenewalOptions
  /** Jobs whose lease this worker holds. */
  readonly activeJobs = new Set<string>()
  /** Whether a job was dropped since the engine was last told which jobs the worker holds. */
  hasDropped = false
  /** When the newest of the answered renewals was sent. */
  #heldSince: number
  /** When the last renewal was sent. */
  #renewedAt: number
  /** Callbacks that wait until the leases are recent. */
  #awaitingRenewal: Array<() => void> = []

  constructor(sentAt: number, options: LeaseRenewalOptions) {
    this.#options = options
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
  }

  get #now(): number {
    return monotonicMs(this.#options.clock)
  }

  /**
   * Notes a registration that was sent at `sentAt`. A registration names the jobs that the worker holds, and so
   * renews their leases.
   */
  noteRegistration(sentAt: number): void {
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
  }

  /** The jobs that the worker still holds. All other jobs are forgotten, and their leases end. */
  heldJobs(): ReadonlyArray<string> {
    for (const jobId of this.activeJobs) if (!this.#options.holds(jobId)) this.activeJobs.delete(jobId)
    return [...this.activeJobs]
  }

  /**
   * The fields of a request that renew the leases. Empty when no renewal is needed now, or when the engine extends the
   * leases itself.
   */
  renewalFields(): string {
    const now = this.#now
    const { capabilities, leaseMs } = this.#options.terms()
    if (capabilities.renewals !== true) return ""
    const isDue = this.hasDropped || this.awaitsRenewal || now - this.#renewedAt >= leaseMs / 10
    this.hasDropped = false
    if (!isDue) return ""
    this.#renewedAt = now
    const holding = `,"holding":${JSON.stringify(this.heldJobs())}`
    const runningTurns = this.activeJobs.size === 0 ? [] : this.#options.runningTurns(REPORT_AFTER_MS)
    return runningTurns.length === 0 ? holding : `${holding},"running":${JSON.stringify(runningTurns)}`
  }

  /**
   * Notes that a request with {@link renewalFields}, sent at `sentAt`, was answered: the leases hold from that time on.
   */
  noteRenewal(sentAt: number, renewal: string): void {
    if (renewal === "" && this.#options.terms().capabilities.renewals === true) return
    this.#heldSince = Math.max(this.#heldSince, sentAt)
    this.notifyRenewed()
  }

  /**
   * A lease counts as recent for a quarter of its term after a renewal. If a step starts at the end of this quarter,
   * and its code blocks the process for half a term, a quarter of the term is still left for the next renewal. Renewals
   * are so frequent that a lease is nearly always recent.
   */
  readonly freshness: LeaseFreshness = {
    isRecent: () => this.#isRecent(this.#heldSince),
    renew: (then) => {
      this.#awaitingRenewal.push(then)
      if (this.#awaitingRenewal.length === 1) this.#options.renewNow()
    }
  }

  /** Whether a callback waits until the leases are recent. */
  get awaitsRenewal(): boolean {
    return this.#awaitingRenewal.length > 0
  }

  #isRecent(at: number): boolean {
    return this.#now - at < this.#options.terms().leaseMs / 4
  }

  /** Calls the waiting callbacks if the leases are recent. */
  notifyRenewed(): void {
    if (!this.awaitsRenewal) return
    if (!this.freshness.isRecent()) {
      // the process was blocked for long after it had sent the renewal that is answered now: another renewal is needed
      if (!this.#isRecent(this.#renewedAt)) this.#options.renewNow()
      return
    }
    const callbacks = this.#awaitingRenewal
    this.#awaitingRenewal = []
    for (const then of callbacks) then()
  }

  /**
   * How long a lease certainly holds after a renewal, in milliseconds. Engines that extend leases themselves
   * guarantee two thirds of the term from the arrival of a request.
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
