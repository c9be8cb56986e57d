/**
 * The side log: what really happened, written by the bodies of steps into a file that only grows.
 *
 * A line is one `write` to a file opened with O_APPEND, so it is there, whole, as soon as the call has returned, even if
 * the process is killed in the next instruction. Only one process writes at a time: the order of the lines is the order
 * of what happened.
 */
import fs from "node:fs"

/** What a handler has seen so far: results of its steps by step key, and which of two won a race. */
export type Seen = Readonly<Record<string, string>>

export type Line =
  /** A process began. */
  | { readonly t: "life"; readonly life: number; readonly at: number }
  /** The body of a step began. `token` is this execution's own, and what it returns. */
  | {
      readonly t: "begin"
      readonly run: string
      readonly fn: string
      readonly key: string
      readonly attempt: number
      readonly token: string
      readonly seen: Seen
      readonly at: number
    }
  /** The body is done and returns. */
  | {
      readonly t: "end"
      readonly run: string
      readonly key: string
      readonly token: string
      readonly at: number
    }
  /** The body throws, or was told to stop. */
  | {
      readonly t: "fail"
      readonly run: string
      readonly key: string
      readonly token: string
      readonly at: number
    }
  /** The handler throws outside of its steps. */
  | { readonly t: "throw"; readonly run: string; readonly attempt: number; readonly at: number }
  /** The client was told that the run has been cancelled. */
  | { readonly t: "cancelled"; readonly run: string; readonly at: number }

export type NewLine = Line extends infer L ? (L extends Line ? Omit<L, "at"> : never) : never

export interface SideLog {
  readonly append: (line: NewLine) => void
}

/** Opens the log; `onLine` hears of each line once it is written. */
export const openSideLog = (file: string, onLine: (line: NewLine) => void): SideLog => {
  const fd = fs.openSync(file, "a")
  return {
    append: (line) => {
      fs.writeSync(fd, `${JSON.stringify({ ...line, at: Date.now() })}\n`)
      onLine(line)
    }
  }
}

/** Every line that was written whole: the last one may have been cut off by a kill. */
export const readSideLog = (file: string): ReadonlyArray<Line> =>
  fs.existsSync(file)
    ? fs
        .readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line)
    : []
