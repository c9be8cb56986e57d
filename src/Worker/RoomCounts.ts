/**
 * Counts the jobs that a worker has requested, the requests that it has withdrawn, and the jobs that it has received.
 * From these counts the engine knows for how many jobs the worker has room. Remembers which counts the engine was told.
 */
import { endsTurn, type TurnReport } from "../Protocol/Worker.ts"

export class RoomCounts {
  #requested = 0
  #withdrawn = 0
  #received = 0
  /** How many jobs {@link anticipate} has asked for ahead of time, before the worker itself asks for them. */
  #anticipated = 0
  #mayAnticipate = true
  #sentRequested = -1
  #sentWithdrawn = -1

  /** Asks for `n` more jobs; a negative `n` withdraws the request for `-n` jobs. */
  makeRoom(n: number): void {
    if (n > 0) {
      const requestedBefore = Math.min(n, this.#anticipated)
      this.#anticipated -= requestedBefore
      this.#requested += n - requestedBefore
    } else {
      // the anticipated jobs are withdrawn too: a worker that withdraws jobs will not ask for any again
      this.#withdrawn += Math.min(this.#outstanding, this.#anticipated - n)
      this.#anticipated = 0
      this.#mayAnticipate = false
    }
  }

  get #outstanding(): number {
    return this.#requested - this.#withdrawn - this.#received
  }

  /**
   * Asks for a job for each turn that these reports end, except for released turns. The counts go out with
   * the reports, so that the next job may come with the answer.
   */
  anticipate(reports: ReadonlyArray<TurnReport>): void {
    if (!this.#mayAnticipate) return
    for (const { ops } of reports) {
      const lastOp = ops.at(-1)
      if (lastOp === undefined || !endsTurn(lastOp) || lastOp._tag === "Release") continue
      this.#anticipated++
      this.#requested++
    }
  }

  /** The fields of a request that tell the engine the counts. The caller must send the request. */
  writeCounts(): string {
    this.#sentRequested = this.#requested
    this.#sentWithdrawn = this.#withdrawn
    return `"asked":${this.#requested},"withdrawn":${this.#withdrawn}`
  }

  /** Whether the counts have changed since {@link writeCounts}. */
  get hasUnsentCounts(): boolean {
    return this.#sentRequested !== this.#requested || this.#sentWithdrawn !== this.#withdrawn
  }

  /** Counts a received job. */
  countReceived(): void {
    this.#received++
  }

  /** Counts a received job whose run was taken back meanwhile, and asks for another one. */
  countSkipped(): void {
    this.#received++
    this.#requested++
  }

  /** Starts over for a new session: the engine knows none of its counts yet. */
  startOver(): void {
    this.#requested = this.#outstanding
    this.#withdrawn = 0
    this.#received = 0
  }
}
