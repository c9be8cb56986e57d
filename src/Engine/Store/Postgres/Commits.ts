/** Which commits this engine has been told of: all commits up to a number, and some after it, which were told out of order. */

/** The first and the last number, both included. */
export type CommitRange = readonly [from: number, to: number]

export class Commits {
  #upTo: number
  #later: Array<CommitRange> = []

  constructor(upTo: number) {
    this.#upTo = upTo
  }

  /** This commit and all before it are known, or were given up. */
  get upTo(): number {
    return this.#upTo
  }

  /** The highest known commit. */
  get last(): number {
    return this.#later.reduce((last, [, to]) => Math.max(last, to), this.#upTo)
  }

  add(...ranges: ReadonlyArray<CommitRange>): void {
    this.#later.push(...ranges)
    this.#later.sort(([a], [b]) => a - b)
    const stillLater: Array<CommitRange> = []
    for (const range of this.#later) {
      if (range[0] <= this.#upTo + 1) this.#upTo = Math.max(this.#upTo, range[1])
      else stillLater.push(range)
    }
    this.#later = stillLater
  }

  /** Gives up missing commits up to `upTo`: they count as known from now on. */
  giveUp(upTo: number): void {
    this.#upTo = Math.max(this.#upTo, upTo)
    this.add()
  }
}

/** The ranges of consecutive numbers in `numbers`, which are ascending. */
export const rangesOf = (numbers: ReadonlyArray<number>): ReadonlyArray<CommitRange> => {
  const ranges: Array<[number, number]> = []
  for (const number of numbers) {
    const last = ranges.at(-1)
    if (last !== undefined && number === last[1] + 1) last[1] = number
    else ranges.push([number, number])
  }
  return ranges
}
