/** The room that a worker has for jobs: what it has asked for, taken back and got, and what of that the engine has been told. */
import { endsTurn, type TurnReport } from "../Protocol/Worker.ts"

export class Room {
  #asked = 0
  #withdrawn = 0
  #delivered = 0
  /** Jobs asked for in the room of turns whose end is being reported, before the worker has asked for them. */
  #anticipated = 0
  #anticipates = true
  #toldAsked = -1
  #toldWithdrawn = -1

  /** There is room for so many more jobs, or for so many fewer. */
  credit(n: number): void {
    if (n > 0) {
      const covered = Math.min(n, this.#anticipated)
      this.#anticipated -= covered
      this.#asked += n - covered
    } else {
      // a worker that takes room back makes none any more
      this.#withdrawn += Math.min(this.#outstanding, this.#anticipated - n)
      this.#anticipated = 0
      this.#anticipates = false
    }
  }

  get #outstanding(): number {
    return this.#asked - this.#withdrawn - this.#delivered
  }

  /** The end of a turn makes room in the request that reports it, so that the next job may come with the answer. */
  anticipate(reports: ReadonlyArray<TurnReport>): void {
    if (!this.#anticipates) return
    for (const { ops } of reports) {
      const last = ops.at(-1)
      if (last === undefined || !endsTurn(last) || last._tag === "Release") continue
      this.#anticipated++
      this.#asked++
    }
  }

  /** The fields of a request that say how much room there is: the engine knows by it. */
  told(): string {
    this.#toldAsked = this.#asked
    this.#toldWithdrawn = this.#withdrawn
    return `"asked":${this.#asked},"withdrawn":${this.#withdrawn}`
  }

  /** Whether the engine does not know yet how much there is. */
  get hasNews(): boolean {
    return this.#toldAsked !== this.#asked || this.#toldWithdrawn !== this.#withdrawn
  }

  /** A job has come. */
  take(): void {
    this.#delivered++
  }

  /** A job has come that is over already: there is room for another one in its place. */
  pass(): void {
    this.#delivered++
    this.#asked++
  }

  /** The engine counts anew: all that it knows of is what is told next. */
  startOver(): void {
    this.#asked = this.#outstanding
    this.#withdrawn = 0
    this.#delivered = 0
  }
}
