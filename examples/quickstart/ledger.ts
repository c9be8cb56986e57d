/**
 * The ledger: a file that only grows. Only the bodies of the steps write to it.
 *
 * It stands for the outside world. Whatever the engine reports about its steps, this file shows how often the card was really
 * charged.
 */
import fs from "node:fs"

export interface Entry {
  /** The process that ran the step: 1 for the first process, 2 for the process after the crash. */
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
