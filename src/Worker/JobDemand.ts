/** Counts the jobs that a worker has requested, withdrawn and received, and which counts the engine knows. */
import { endsTurn, type TurnReport } from "../Protocol/Worker.ts"

export class JobDemand {
  #requested = 0
  #withdrawn = 0
  #delivered = 0
  /** How many jobs were requested by {@link anticipate}, and not yet by the worker. */
  #anticipated = 0
  #anticipates = true
  #sentRequested = -1
  #sentWithdrawn = -1

  /** Requests `n` more jobs; a negative `n` withdraws requests. */
  credit(n: number): void {
    if (n > 0) {
      const covered = Math.min(n, this.#anticipated)
      this.#anticipated -= covered
      this.#requested += n - covered
    } else {
      // a worker that withdraws requests will not request any jobs again
      this.#withdrawn += Math.min(this.#outstanding, this.#anticipated - n)
      this.#anticipated = 0
      this.#anticipates = false
    }
  }

  get #outstanding(): number {
    return this.#requested - this.#withdrawn - this.#delivered
  }

  /**
   * Requests a job for each turn whose end is in these reports. The request goes out with the reports, so
   * that the next job may come with the answer.
   */
  anticipate(reports: ReadonlyArray<TurnReport>): void {
    if (!this.#anticipates) return
    for (const { ops } of reports) {
      const last = ops.at(-1)
      if (last === undefined || !endsTurn(last) || last._tag === "Release") continue
      this.#anticipated++
      this.#requested++
    }
  }

  /** The fields of a request that tell the engine these counts. */
  told(): string {
    this.#sentRequested = this.#requested
    this.#sentWithdrawn = this.#withdrawn
    return `"asked":${this.#requested},"withdrawn":${this.#withdrawn}`
  }

  /** Whether the counts have changed since the engine was last told. */
  get hasNews(): boolean {
    return this.#sentRequested !== this.#requested || this.#sentWithdrawn !== this.#withdrawn
  }

  /** Counts a received job. */
  take(): void {
    this.#delivered++
  }

  /** Counts a received job whose run was taken back meanwhile, and requests another job. */
  pass(): void {
    this.#delivered++
    this.#requested++
  }

  /** Starts over with a new session. The engine knows only the counts that it is told next. */
  startOver(): void {
    this.#requested = this.#outstanding
    this.#withdrawn = 0
    this.#delivered = 0
  }
}
