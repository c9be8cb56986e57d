/** The words that the console shows for bulk operations. */
import type { BulkOperation } from "../../Protocol/Bulk.ts"
import { count } from "./Elements.tsx"

/** The past participle of each action. */
export const pastParticiples: { readonly [A in BulkOperation["action"]]: string } = {
  erase: "erased",
  cancel: "cancelled",
  retry: "retried",
  resume: "resumed",
  pause: "paused",
  rerun: "rerun",
  fork: "forked",
  move: "moved",
  delete: "deleted"
}

/** Each action as a sentence. */
export const actionSentences: { readonly [A in BulkOperation["action"]]: string } = {
  erase: "The data of a person is replaced by a mark. Ids, times and statuses stay. This cannot be undone.",
  cancel:
    "Each run is cancelled, with the runs that it waits for. Compensations do not run. A cancelled run can be retried.",
  retry:
    "Each run is tried again. Finished steps keep their results; if you name a step, that step and all later ones run again.",
  resume: "Each paused run continues. Failed and cancelled runs are retried.",
  pause: "Each run pauses before its next step, until somebody resumes it.",
  rerun:
    "For each run that has ended, a new run of the same function starts with the same input and the current code.",
  fork: "Each run gets a fork: a new run that takes over the results of all steps before the step that you name, and continues from there with the current code. The original run stays as it is.",
  move: "Each unfinished run that is pinned to a version continues with the latest version, or with the version that you name.",
  delete:
    "Each run that has ended is deleted, with its steps, logs and attributes. The event stays. This cannot be undone."
}

export const capitalized = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1)

/**
 * A number of runs with its noun: `1 run`, `1,234 runs`. For an erasure the noun is `items`, since runs are only one
 * kind of erased data.
 */
export const runCountText = (number: number, action?: BulkOperation["action"]): string =>
  action === "erase"
    ? `${count(number)} ${number === 1 ? "item" : "items"}`
    : `${count(number)} ${number === 1 ? "run" : "runs"}`

const skippedText = ({ skipped }: BulkOperation): string =>
  Object.entries(skipped)
    .map(([why, number]) => `${count(number)} ${why}`)
    .join(", ")

/**
 * What a dry run has found, as a sentence. The `done` of a dry run is the number of runs to which the action can be
 * applied.
 */
export const dryRunResultOf = (operation: BulkOperation): string => {
  const { action, done: number, matched, skipped } = operation
  if (matched === 0) return "There are no such runs."
  const others = Object.keys(skipped).length === 0 ? "" : ` The others: ${skippedText(operation)}.`
  return `${runCountText(matched, action)} ${matched === 1 ? "matches" : "match"}, of which ${count(number)} can be ${pastParticiples[action]}.${others}`
}

/** What the operation has done, as a sentence. */
export const resultOf = (operation: BulkOperation): string => {
  const { action, done: number, matched } = operation
  const remaining = matched - number
  return `${runCountText(number, action)} ${pastParticiples[action]}.${
    remaining === 0
      ? ""
      : ` ${runCountText(remaining, action)} ${remaining === 1 ? "stays as it was" : "stay as they were"}: ${skippedText(operation)}.`
  }`
}
