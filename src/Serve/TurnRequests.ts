/**
 * Reads the job of a turn that an engine of this package sends. Nothing checks the job afterwards, so every
 * field is checked here, also those of steps.
 */
import { isObject } from "../Json.ts"
import type { Job } from "../Protocol/Worker.ts"
import {
  bool,
  check,
  list,
  number,
  object,
  oneOf,
  optional,
  type Problems,
  throwIfInvalid,
  type Rule,
  text,
  texts
} from "./FieldRules.ts"

const listOfTexts: Rule = (value) =>
  Array.isArray(value) && value.every((one) => typeof one === "string")
    ? undefined
    : "must be an array of strings"

const jobRules = {
  jobId: text,
  runId: text,
  functionId: text,
  environment: text,
  attempt: number,
  generation: number,
  journal: list,
  open: list,
  lingerMs: number,
  createdAt: number,
  secrets: optional(texts)
}
const eventRules = {
  id: text,
  name: text,
  version: number,
  data: text,
  metadata: optional(text),
  timestamp: number,
  source: optional(text),
  idempotencyKey: optional(text),
  entity: optional(object)
}
const entryRules = { stepKey: text, name: text, kind: text, attempt: number }
const openRules = { stepKey: text, name: text, kind: text, failures: number, pending: bool }
const outcomeRules = { _tag: oneOf("Success", "Failure") }
const errorRules = { name: text, message: text }

/** Checks the job, and returns it. Throws a `ValidationError` that names every invalid field. */
export const readTurnJob = (job: unknown): Job => {
  const problems: Problems = []
  check("job", job, jobRules, problems)
  if (isObject(job)) {
    check("job.event", job.event, eventRules, problems)
    for (const [i, entry] of listOf(job.journal).entries()) checkEntry(`job.journal.${i}`, entry, problems)
    for (const [i, open] of listOf(job.open).entries()) check(`job.open.${i}`, open, openRules, problems)
    if (job.compensating !== undefined) checkCompensating(job.compensating, problems)
  }
  throwIfInvalid("turn", problems)
  // every field that is read was checked above
  return job as unknown as Job
}

const checkEntry = (at: string, entry: unknown, problems: Problems): void => {
  check(at, entry, entryRules, problems)
  if (!isObject(entry)) return
  const { outcome } = entry
  check(`${at}.outcome`, outcome, outcomeRules, problems)
  if (!isObject(outcome)) return
  if (outcome._tag === "Success") check(`${at}.outcome`, outcome, { value: optional(text) }, problems)
  if (outcome._tag === "Failure") check(`${at}.outcome.error`, outcome.error, errorRules, problems)
}

const checkCompensating = (compensating: unknown, problems: Problems): void => {
  check("job.compensating", compensating, { compensations: listOfTexts }, problems)
  if (isObject(compensating)) check("job.compensating.error", compensating.error, errorRules, problems)
}

const listOf = (value: unknown): ReadonlyArray<unknown> => (Array.isArray(value) ? value : [])
