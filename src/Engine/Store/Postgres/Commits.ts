/** Which commits this engine has been told of: all commits up to a number, and some later ones, out of order. */

/** The first and the last number, both included. */
export type CommitRange = readonly [from: number, to: number]

export class Commits {
  #allUpTo: number
  #laterRanges: Array<CommitRange> = []

  constructor(upTo: number) {
    this.#allUpTo = upTo
  }

  /** This engine was told of this commit and of all before it, or they were given up. */
  get allUpTo(): number {
    return this.#allUpTo
  }

  /** The highest known commit. */
  get highest(): number {
    return this.#laterRanges.reduce((last, [, to]) => Math.max(last, to), this.#allUpTo)
  }

  add(...ranges: ReadonlyArray<CommitRange>): void {
    this.#laterRanges.push(...ranges)
    this.#laterRanges.sort(([a], [b]) => a - b)
    const remainingRanges: Array<CommitRange> = []
    for (const range of this.#laterRanges) {
      if (range[0] <= this.#allUpTo + 1) this.#allUpTo = Math.max(this.#allUpTo, range[1])
      else remainingRanges.push(range)
    }
    this.#laterRanges = remainingRanges
  }

  /** Gives up missing commits up to `upTo`: they count as known from now on. */
  giveUp(upTo: number): void {
    this.#allUpTo = Math.max(this.#allUpTo, upTo)
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
