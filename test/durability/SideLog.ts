/**
 * The side log: what really happened, written by the bodies of steps into a file that only grows.
 *
 * Each line is one `write` to a file opened with O_APPEND. It is complete once the call has returned, even if the
 * process is killed right afterwards. Lines are in the order of what happened. Where several processes write, each line
 * names its process.
 */
import fs from "node:fs"
import process from "node:process"

/** What a handler has seen so far: results of its steps by step key, and which of two won a race. */
export type Seen = Readonly<Record<string, string>>

/** When and by whom a line was written. */
interface Stamp {
  readonly at: number
  /** By the machine's monotonic clock, in milliseconds: comparable between processes. */
  readonly mono: number
  /** The process that wrote it, where there are several at once. */
  readonly by?: string
}

/** Milliseconds of a clock that all processes of the machine share, whatever their wall clocks say. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6

export type Line = Stamp & Said

type Said =
  /** A process began. */
  | { readonly t: "life"; readonly life: number }
  /** The body of a step began. `token` is unique to this execution, which returns it. */
  | {
      readonly t: "begin"
      readonly run: string
      readonly fn: string
      readonly key: string
      readonly attempt: number
      readonly token: string
      readonly seen: Seen
    }
  /** The body is done and returns. */
  | { readonly t: "end"; readonly run: string; readonly key: string; readonly token: string }
  /** The body throws. */
  | { readonly t: "fail"; readonly run: string; readonly key: string; readonly token: string }
  /** The body was aborted, and stops. */
  | { readonly t: "abort"; readonly run: string; readonly key: string; readonly token: string }
  /** The handler throws outside of its steps. */
  | { readonly t: "throw"; readonly run: string; readonly attempt: number }
  /** The client was told that the run has been cancelled. */
  | { readonly t: "cancelled"; readonly run: string }

export type NewLine = Said

export interface SideLog {
  readonly append: (line: NewLine) => void
}

/** Opens the log. `onLine` is called after each line was written; `by` names this process where there are several. */
export const openSideLog = (file: string, onLine: (line: NewLine) => void, by?: string): SideLog => {
  const fd = fs.openSync(file, "a")
  return {
    append: (line) => {
      fs.writeSync(fd, `${JSON.stringify({ ...line, at: Date.now(), mono: monotonic(), by })}\n`)
      onLine(line)
    }
  }
}

/** All complete lines: a kill may have cut off the last one. */
export const readSideLog = (file: string): ReadonlyArray<Line> =>
  fs.existsSync(file)
    ? fs
        .readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line)
    : []

/** Reads a side log while it grows, each line once. */
export class SideLogReader {
  readonly #file: string
  readonly #lines: Array<Line> = []
  #read = 0

  constructor(file: string) {
    this.#file = file
  }

  /** All complete lines so far. */
  get lines(): ReadonlyArray<Line> {
    if (!fs.existsSync(this.#file)) return this.#lines
    const size = fs.statSync(this.#file).size
    if (size === this.#read) return this.#lines
    const fd = fs.openSync(this.#file, "r")
    const bytes = Buffer.alloc(size - this.#read)
    fs.readSync(fd, bytes, 0, bytes.length, this.#read)
    fs.closeSync(fd)
    const whole = bytes.subarray(0, bytes.lastIndexOf("\n") + 1)
    this.#read += whole.length
    for (const line of whole.toString("utf8").split("\n")) {
      if (line !== "") this.#lines.push(JSON.parse(line) as Line)
    }
    return this.#lines
  }
}
