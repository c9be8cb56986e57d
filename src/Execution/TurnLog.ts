/** The log lines of a turn that wait for its next report. */
import * as Limits from "../Limits.ts"
import type { LogLine, TurnLogs } from "../Protocol/Worker.ts"

/** How many characters a line counts in addition to the length of its strings. */
const LINE_OVERHEAD = 64

export class TurnLog {
  #lines: Array<LogLine> = []
  #length = 0
  #dropped = 0

  /** Adds a line. When the log would exceed its limits, the oldest lines are dropped. */
  add(line: LogLine): void {
    this.#lines.push(line)
    this.#length += lengthOf(line)
    if (this.#lines.length <= Limits.logLinesOfRun && this.#length <= Limits.logCharactersOfRun) return
    // drops a tenth more than necessary, so that the array is not copied for every further line
    let first = 0
    while (
      this.#lines.length - first > Limits.logLinesOfRun * 0.9 ||
      (this.#length > Limits.logCharactersOfRun * 0.9 && first < this.#lines.length - 1)
    ) {
      this.#length -= lengthOf(this.#lines[first++]!)
    }
    this.#dropped += first
    this.#lines = this.#lines.slice(first)
  }

  /** Adds the lines of another report after the lines of this log. */
  addAll({ dropped = 0, lines }: TurnLogs): void {
    this.#dropped += dropped
    for (const line of lines) this.add(line)
  }

  /** Takes the lines since the last call; `undefined` when there are none. */
  take(): TurnLogs | undefined {
    if (this.#lines.length === 0) return undefined
    const logs = { lines: this.#lines, ...(this.#dropped === 0 ? {} : { dropped: this.#dropped }) }
    this.#lines = []
    this.#length = 0
    this.#dropped = 0
    return logs
  }
}

/** The number of characters that a line adds to the length of the log. */
export const lengthOf = ({ data, message, step }: LogLine): number =>
  message.length + (data?.length ?? 0) + (step?.length ?? 0) + LINE_OVERHEAD
