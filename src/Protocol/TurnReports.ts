/**
 * Reads the reports of turns that workers and push handlers send. Tables say how to check each field of an op: an
 * engine reads very many reports, and with tables this is faster than with a schema. Unknown fields are kept and
 * ignored.
 */
import { checkEntityId, checkExpectedVersion } from "../EntityStream.ts"
import { isIronflowError, ValidationError } from "../Errors.ts"
import { checkEventName } from "../Event.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { checkShape, ShapeCounts } from "../JsonLimits.ts"
import { checkBucketName, checkKey } from "../KvKeys.ts"
import {
  checkName,
  checkSize,
  eventBytes,
  jsonDepth,
  logLinesOfRun,
  nameLength,
  stepResultBytes,
  writesAtOnce
} from "../Limits.ts"
import { lineLevels } from "../LogFields.ts"
import { encodeMetadata } from "../Metadata.ts"
import type { Room, ReportsRequest } from "./Http/Turns.ts"
import {
  endsTurn,
  type LogLine,
  type TurnLogs,
  type TurnOp,
  type TurnReport,
  type TxWrite
} from "./Worker.ts"
import { show } from "../Show.ts"
import { stepKinds } from "../StepKind.ts"

/** Checks a value. For an invalid value, returns what it must be; for a valid one, `undefined`. */
type Rule = (value: unknown) => string | undefined

const kinds: ReadonlySet<unknown> = new Set(stepKinds)

const text: Rule = (value) => (typeof value === "string" ? undefined : "a string")
const number: Rule = (value) =>
  typeof value === "number" && Number.isFinite(value) ? undefined : "a finite number"
const count: Rule = (value) =>
  Number.isSafeInteger(value) && Number(value) >= 0 ? undefined : "an integer, at least 0"
const kind: Rule = (value) => (kinds.has(value) ? undefined : "the kind of a step")
/**
 * A `traceparent`, which is left out if it is no short string. One of an invalid form is stored all the same; whoever reads it
 * ignores it.
 */
const isTrace = (value: unknown): boolean =>
  value === undefined || (typeof value === "string" && value.length <= 256)
const strings: Rule = (value) =>
  Array.isArray(value) && value.every((item) => typeof item === "string") ? undefined : "an array of strings"
const due: Rule = (value) =>
  isObject(value) && number("at" in value ? value.at : value.afterMs) === undefined
    ? undefined
    : "{ afterMs } or { at }, with a finite number"
const error: Rule = (value) =>
  isObject(value) && typeof value.name === "string" && typeof value.message === "string"
    ? undefined
    : "an error with the strings name and message"
/** Counts the values in the message that is being read. Each message gets a new counter: messages are read one at a time. */
let shapeCounts = new ShapeCounts()

/** Checks that a value is valid JSON, since it is stored unchanged, and parsed by those who read it. */
const jsonText: Rule = (value) => {
  if (typeof value !== "string") return "JSON text"
  checkSize("A value in a report", value, stepResultBytes)
  checkShape("the values of a report", value, jsonDepth, shapeCounts)
  return value === "null" || safeJsonParse(value) !== undefined ? undefined : "JSON text"
}
const outcome: Rule = (value) => {
  if (isObject(value) && value._tag === "Success")
    return value.value === undefined ? undefined : jsonText(value.value)
  return isObject(value) && value._tag === "Failure" && error(value.error) === undefined
    ? undefined
    : '{ _tag: "Success", value? } with JSON text as the value, or { _tag: "Failure", error } with an error that has the strings name and message'
}
const anything: Rule = () => undefined
const optional =
  (rule: Rule): Rule =>
  (value) =>
    value === undefined ? undefined : rule(value)

/**
 * Checks an event that a `step.tx` writes, as the events of clients are checked. For an invalid event, the result
 * completes the sentence "`writes` must be …".
 */
const eventRequirement = (value: { readonly [key: string]: unknown }): string | undefined => {
  checkEventName(value.name)
  if (!Number.isSafeInteger(value.version) || Number(value.version) < 1)
    return "writes of events whose version is an integer, at least 1"
  for (const part of [value.data, ...(value.metadata === undefined ? [] : [value.metadata])]) {
    if (jsonText(part) !== undefined) return "writes of events whose data and metadata are JSON text"
    checkSize(`Data of event ${show(value.name, nameLength)}`, String(part), eventBytes)
  }
  // the metadata is valid JSON, as checked above
  if (value.metadata !== undefined) {
    encodeMetadata(
      `The metadata of event ${show(value.name, nameLength)}`,
      JSON.parse(String(value.metadata))
    )
  }
  return undefined
}

const keyValue: Rule = (value) => {
  if (!isObject(value) || typeof value.data !== "string") return "a value"
  if (value.type === "json") return jsonText(value.data)
  return value.type === "text" || value.type === "bytes" ? undefined : "a value"
}

/** The check of each kind of write. For an invalid write, its result completes the sentence "`writes` must be …". */
const writeRules: {
  readonly [Tag in TxWrite["_tag"]]: (write: { readonly [key: string]: unknown }) => string | undefined
} = {
  append: ({ entityId, entityType, events, expectedVersion }) => {
    checkEntityId(entityId)
    checkName("entity type", entityType)
    checkExpectedVersion(String(entityId), expectedVersion)
    if (!Array.isArray(events) || events.length === 0 || !events.every(isObject)) {
      return "appends of at least one event"
    }
    return events.map(eventRequirement).find((requirement) => requirement !== undefined)
  },
  emit: eventRequirement,
  kv: ({ bucket, expected, key, value }) => {
    checkBucketName(bucket)
    checkKey(key)
    return optional(count)(expected) === undefined && optional(keyValue)(value) === undefined
      ? undefined
      : "changes of keys whose values are of type json, text or bytes and whose expected revision is an integer, at least 0"
  }
}
const writeRulesByTag: ReadonlyMap<
  unknown,
  (write: { readonly [key: string]: unknown }) => string | undefined
> = new Map(Object.entries(writeRules))

const txWrites: Rule = (value) => {
  if (!Array.isArray(value) || value.length > writesAtOnce)
    return `an array of at most ${writesAtOnce} writes`
  const keys = new Set<string>()
  for (const write of value) {
    const check = isObject(write) ? writeRulesByTag.get(write._tag) : undefined
    if (!isObject(write) || check === undefined) return "writes of the kinds append, emit and kv"
    const requirement = check(write)
    if (requirement !== undefined) return requirement
    if (write._tag !== "kv") continue
    // bucket names contain no slash
    const key = `${String(write.bucket)}/${String(write.key)}`
    if (keys.has(key)) return "writes that change each key at most once"
    keys.add(key)
  }
  return undefined
}

const stepRules = { stepKey: text, name: text }

const rules: { readonly [Tag in TurnOp["_tag"]]: { readonly [field: string]: Rule } } = {
  StepDone: { ...stepRules, kind, outcome, attempt: count, startedAt: number, endedAt: number },
  Transact: {
    ...stepRules,
    value: optional(jsonText),
    writes: txWrites,
    attempt: count,
    startedAt: number,
    endedAt: number
  },
  StepRetry: { ...stepRules, kind, failures: count, error, due },
  Sleep: { ...stepRules, due },
  WaitForEvent: {
    ...stepRules,
    scope: text,
    event: text,
    match: optional(text),
    unseen: optional(strings),
    timeout: due,
    timeoutMs: number
  },
  Invoke: { ...stepRules, functionId: text, input: optional(jsonText), timeoutMs: number },
  InvokeAsync: { ...stepRules, functionId: text, input: optional(jsonText) },
  Publish: { ...stepRules, topic: text, data: jsonText },
  Settle: { stepKey: text },
  Withdraw: { stepKey: text },
  Complete: { output: optional(jsonText) },
  RetryRun: { error, due },
  Compensate: { error, compensations: strings },
  Fail: { error },
  Suspend: { open: strings },
  Pause: { code: text, message: text, details: anything },
  Release: {}
}

const rulesByTag: ReadonlyMap<unknown, ReadonlyArray<readonly [field: string, rule: Rule]>> = new Map(
  Object.entries(rules).map(([tag, fields]) => [tag, Object.entries(fields)])
)

/** What was read, and what was left out of it because it is invalid and no run depends on it: a sentence for each. */
export interface LeftOut {
  readonly leftOut: ReadonlyArray<string>
}

/**
 * Reads a batch of reports. Throws `ValidationError` naming the report, the op and the field. Invalid log lines and traces are left
 * out: a report without them would be refused as a whole, and its run could not end.
 */
export const readReports = (body: unknown): ReportsRequest & LeftOut => {
  if (!isObject(body)) throw new ValidationError("Reports: the body must be an object")
  const { session, batch, reports } = body
  if (typeof session !== "string") throw new ValidationError("Reports: `session` must be a string")
  if (!Number.isSafeInteger(batch) || Number(batch) < 1) {
    throw new ValidationError("Reports: `batch` must be an integer, at least 1, got " + show(batch))
  }
  if (!Array.isArray(reports)) throw new ValidationError("Reports: `reports` must be an array")
  shapeCounts = new ShapeCounts()
  const leftOut: Array<string> = []
  return {
    session,
    batch: Number(batch),
    reports: reports.map((report, i) => readOne(report, `Reports: reports[${i}]`, leftOut)),
    ...readJobRoom(body),
    leftOut
  }
}

/** How many jobs the worker has room for. */
const readJobRoom = (body: { readonly [key: string]: unknown }): Room => ({
  ...optionalCount(body, "asked"),
  ...optionalCount(body, "withdrawn")
})

const optionalCount = (
  body: { readonly [key: string]: unknown },
  field: string
): { [field: string]: number } => {
  const value = body[field]
  if (value === undefined || value === null) return {}
  if (count(value) !== undefined)
    throw new ValidationError(`Reports: \`${field}\` must be ${count(value)}, got ${show(value)}`)
  return { [field]: Number(value) }
}

/** A larger count of dropped lines is taken as this one: sums of counts have to be numbers that can be stored. */
const MAX_DROPPED = 1_000_000_000

/** The valid log lines. The invalid ones are counted as dropped, and `leftOut` gets a sentence. `at` is the path of their report. */
const readLogs = (logs: unknown, at: string, leftOut: Array<string>): TurnLogs | undefined => {
  if (!isObject(logs) || !Array.isArray(logs.lines)) {
    leftOut.push(`${at}: \`logs\` was left out: it must have the array \`lines\``)
    return undefined
  }
  const problems = new Set<string>()
  const lines: Array<LogLine> = []
  // as those who write the lines do, drops the oldest of too many
  const newest: ReadonlyArray<unknown> = logs.lines.slice(-logLinesOfRun)
  for (const line of newest) {
    const problem = lineRequirement(line)
    // checked by `lineRequirement`
    if (problem === undefined) lines.push(line as LogLine)
    else problems.add(problem)
  }
  const isCounted = optional(count)(logs.dropped) === undefined
  const invalid = newest.length - lines.length
  const droppedBefore = isCounted ? Math.min(Number(logs.dropped ?? 0), MAX_DROPPED) : 0
  const dropped = droppedBefore + logs.lines.length - lines.length
  if (problems.size > 0)
    leftOut.push(
      `${at}: ${invalid === 1 ? "1 log line was" : `${invalid} log lines were`} left out: \`logs\` must have ${[...problems].join(", and ")}`
    )
  if (logs.lines.length > newest.length)
    leftOut.push(
      `${at}: the oldest log lines were left out: \`logs\` may have at most ${logLinesOfRun} lines, got ${logs.lines.length}`
    )
  return { lines, ...(dropped === 0 ? {} : { dropped }) }
}

const lineRequirement = (line: unknown): string | undefined => {
  if (!isObject(line) || number(line.at) !== undefined) return "lines whose `at` is a time in milliseconds"
  if (typeof line.message !== "string" || !levels.has(line.level))
    return `lines with a \`message\` and a \`level\` (${lineLevels.join(", ")})`
  if (optional(text)(line.step) !== undefined || optional(text)(line.worker) !== undefined)
    return "lines whose `step` and `worker`, if present, are strings"
  if (optional(count)(line.attempt) !== undefined)
    return "lines whose `attempt`, if present, is an integer, at least 0"
  return line.data === undefined || isLineData(line.data)
    ? undefined
    : "lines whose `data`, if present, is JSON text that is not too large"
}

const isLineData = (data: unknown): boolean => {
  try {
    return jsonText(data) === undefined
  } catch (error) {
    // too large, or nested too deeply
    if (isIronflowError(error)) return false
    throw error
  }
}

const levels: ReadonlySet<unknown> = new Set(lineLevels)

/** Reads a report, as {@link readReports} does. `at` is the path of the report in the body. */
export const readTurnReport = (report: unknown, at: string): LeftOut & { readonly report: TurnReport } => {
  shapeCounts = new ShapeCounts()
  const leftOut: Array<string> = []
  return { report: readOne(report, at, leftOut), leftOut }
}

const readOne = (report: unknown, at: string, leftOut: Array<string>): TurnReport => {
  if (
    !isObject(report) ||
    typeof report.jobId !== "string" ||
    typeof report.runId !== "string" ||
    !Array.isArray(report.ops)
  ) {
    throw new ValidationError(`${at} must have the strings \`jobId\` and \`runId\`, and the array \`ops\``)
  }
  const ops: Array<TurnOp> = []
  for (let i = 0; i < report.ops.length; i++) {
    const op: unknown = report.ops[i]
    const fields = isObject(op) ? rulesByTag.get(op._tag) : undefined
    if (!isObject(op) || fields === undefined) {
      throw new ValidationError(`${at}.ops[${i}] is not an op that this engine knows`)
    }
    for (const [field, rule] of fields) {
      const requirement = rule(op[field])
      if (requirement !== undefined) {
        throw new ValidationError(`${at}.ops[${i}] (${String(op._tag)}): \`${field}\` must be ${requirement}`)
      }
    }
    // the op was checked above, so it has all of its fields
    const checkedOp = op as unknown as TurnOp
    if (i < report.ops.length - 1 && endsTurn(checkedOp)) {
      throw new ValidationError(`${at}.ops[${i}] (${String(op._tag)}) ends the turn: nothing can follow it`)
    }
    if (isTrace(op.trace)) ops.push(checkedOp)
    else {
      leftOut.push(`${at}.ops[${i}] (${String(op._tag)}): \`trace\` was left out: it must be a short string`)
      const { trace: _, ...untraced } = op
      ops.push(untraced as unknown as TurnOp)
    }
  }
  // everything else was checked above
  const { logs, ...rest } = report as unknown as TurnReport
  // read last, so that the limits of the message are there for the ops first
  const read = logs === undefined ? undefined : readLogs(logs, at, leftOut)
  return { ...rest, ops, ...(read === undefined ? {} : { logs: read }) }
}
