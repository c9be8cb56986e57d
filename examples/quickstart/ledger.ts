/**
 * The side log: a file that only grows, written by the bodies of the steps and by nothing else.
 *
 * It stands for the outside world. An engine may say what it likes about its steps; the card was charged as often as
 * this file says.
 */
import fs from "node:fs"

export interface Entry {
  /** Which process did it: 1 for the first one, 2 for the one that came after the crash. */
  readonly life: number
  readonly functionId: string
  readonly step: string
}

export const record = (file: string, entry: Entry): void =>
  fs.appendFileSync(file, JSON.stringify(entry) + "\n")

export const read = (file: string): Array<Entry> =>
  fs
    .readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))
