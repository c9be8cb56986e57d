/** Which commits of all engines are known: all up to a number, and some after it, which may arrive out of order. */

/** The first and the last number, both included. */
export type Span = readonly [from: number, to: number]

export class Commits {
  #upTo: number
  #later: Array<Span> = []

  constructor(upTo: number) {
    this.#upTo = upTo
  }

  /** All commits up to this one are known. */
  get upTo(): number {
    return this.#upTo
  }

  /** The highest known commit. */
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

  /** Stops waiting for missing commits up to this one. */
  giveUp(upTo: number): void {
    this.#upTo = Math.max(this.#upTo, upTo)
    this.add()
  }
}

/** Ascending numbers, as spans. */
export const spansOf = (numbers: ReadonlyArray<number>): ReadonlyArray<Span> => {
  const spans: Array<[number, number]> = []
  for (const number of numbers) {
    const last = spans.at(-1)
    if (last !== undefined && number === last[1] + 1) last[1] = number
    else spans.push([number, number])
  }
  return spans
}
