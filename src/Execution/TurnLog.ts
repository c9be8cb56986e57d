/** Lines of a turn that wait for its next report: a turn that logs nothing has none of this. */
import * as Limits from "../Limits.ts"
import type { LogLine, TurnLogs } from "../Protocol/Worker.ts"

/** Characters that a line counts for beside its texts. */
const FRAME = 64

export class TurnLog {
  #lines: Array<LogLine> = []
  #length = 0
  #dropped = 0

  /** Keeps a line; when there is no room for it, the oldest ones make some. */
  add(line: LogLine): void {
    this.#lines.push(line)
    this.#length += lengthOf(line)
    if (this.#lines.length <= Limits.linesOfRun && this.#length <= Limits.linesLength) return
    // a tenth more than has to be, so that not every further line moves all others
    let first = 0
    while (
      this.#lines.length - first > Limits.linesOfRun * 0.9 ||
      (this.#length > Limits.linesLength * 0.9 && first < this.#lines.length - 1)
    ) {
      this.#length -= lengthOf(this.#lines[first++]!)
    }
    this.#dropped += first
    this.#lines = this.#lines.slice(first)
  }

  /** Keeps the lines of a report behind those that are here. */
  addAll({ dropped = 0, lines }: TurnLogs): void {
    this.#dropped += dropped
    for (const line of lines) this.add(line)
  }

  /** What was logged since it was asked for last; `undefined` when nothing was. */
  take(): TurnLogs | undefined {
    if (this.#lines.length === 0) return undefined
    const logs = { lines: this.#lines, ...(this.#dropped === 0 ? {} : { dropped: this.#dropped }) }
    this.#lines = []
    this.#length = 0
    this.#dropped = 0
    return logs
  }
}

/** Characters of a line, for the limits of what is kept. */
export const lengthOf = ({ data, message, step }: LogLine): number =>
  message.length + (data?.length ?? 0) + (step?.length ?? 0) + FRAME
