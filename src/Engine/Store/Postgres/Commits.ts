/** Which commits of all engines are known: all up to one, and some after it, which may come out of order. */

/** From the first to the last of them, both included. */
export type Span = readonly [from: number, to: number]

export class Commits {
  #upTo: number
  #later: Array<Span> = []

  constructor(upTo: number) {
    this.#upTo = upTo
  }

  /** All up to this one are known. */
  get upTo(): number {
    return this.#upTo
  }

  /** The last one of which something is known. */
  get last(): number {
    return this.#later.reduce((last, [, to]) => Math.max(last, to), this.#upTo)
  }

  add(...spans: ReadonlyArray<Span>): void {
    this.#later.push(...spans)
    this.#later.sort(([a], [b]) => a - b)
    const left: Array<Span> = []
    for (const span of this.#later) {
      if (span[0] <= this.#upTo + 1) this.#upTo = Math.max(this.#upTo, span[1])
      else left.push(span)
    }
    this.#later = left
  }

  /** What is missing up to this one is of no interest any more. */
  giveUp(upTo: number): void {
    this.#upTo = Math.max(this.#upTo, upTo)
    this.add()
  }
}

/** Numbers that grow, as spans. */
export const spansOf = (numbers: ReadonlyArray<number>): ReadonlyArray<Span> => {
  const spans: Array<[number, number]> = []
  for (const number of numbers) {
    const last = spans.at(-1)
    if (last !== undefined && number === last[1] + 1) last[1] = number
    else spans.push([number, number])
  }
  return spans
}
