/**
 * Turns facts about an engine and its database into the checks that `ironflow doctor` shows. Each check has a status, a message and
 * advice. All functions but {@link checkNodeVersion} are pure, so that tests can call them with any facts. Times are epoch
 * milliseconds.
 */
import type { Explanation } from "../../Client/Client.ts"
import { formatDuration } from "../../Duration.ts"
import { nodeProblem } from "../../NodeVersion.ts"
import type { ReasonCode } from "../../Protocol/ExplainReasons.ts"
import type { DoctorCheck } from "../../Protocol/Server.ts"
import { formatSize } from "../../Size.ts"
import { SDK_VERSION } from "../../SdkVersion.ts"
import type { Condition } from "./Condition.ts"
import { MAX_COUNTED_DEAD_LETTERS, MAX_EXAMPLES, MAX_READY_MS, MAX_COUNTED_RUNS } from "./Limits.ts"

export const ok = (name: string, message: string): DoctorCheck => ({ name, status: "ok", message })
export const warn = (name: string, message: string, advice: string): DoctorCheck => ({
  name,
  status: "warn",
  message,
  advice
})
export const fail = (name: string, message: string, advice: string): DoctorCheck => ({
  name,
  status: "fail",
  message,
  advice
})

/** Whether the version of Node that runs this code is new enough. */
export const checkNodeVersion = (): DoctorCheck => {
  const problem = nodeProblem()
  const versions = `Node.js ${process.versions.node}, @ironflow/node ${SDK_VERSION}.`
  return problem === undefined
    ? ok("node", versions)
    : fail("node", `${problem}.`, "Install a newer Node.js.")
}

/** The check warns when two clocks differ by this much, or a clock was set back by this much. */
const CLOCK_WARN_MS = 1000
/** The check fails when two clocks differ by this much, or a clock was set back by this much. */
const CLOCK_FAIL_MS = 60_000

const SYNC = "Let the machine keep its time by NTP (`timedatectl` says whether it does)."

const UNITS = [
  { size: 86_400_000, unit: "d", smallSize: 3_600_000, smallUnit: "h" },
  { size: 3_600_000, unit: "h", smallSize: 60_000, smallUnit: "m" },
  { size: 60_000, unit: "m", smallSize: 1000, smallUnit: "s" }
] as const

/** A difference of two times in words, rounded to two units: 1 h 59 min 59.9 s is `"2h"`. It must be a second or more. */
const roughDuration = (ms: number): string => {
  const seconds = Math.round(ms / 1000) * 1000
  const units = UNITS.find(({ size }) => seconds >= size)
  if (units === undefined) return `${seconds / 1000}s`
  const { size, smallSize, smallUnit, unit } = units
  const rounded = Math.round(seconds / smallSize) * smallSize
  const rest = (rounded % size) / smallSize
  return `${Math.floor(rounded / size)}${unit}${rest === 0 ? "" : ` ${rest}${smallUnit}`}`
}

/** Compares this clock with another clock, which showed the time `otherNow`. `slackMs` is how long it took to ask for that time. */
export const checkClockSkew = (now: number, otherNow: number, whose: string, slackMs = 0): DoctorCheck => {
  const differenceMs = Math.max(0, Math.abs(now - otherNow) - slackMs)
  if (differenceMs < CLOCK_WARN_MS) return ok("clock", `The clock agrees with that of ${whose}.`)
  const message = `The clock is ${roughDuration(differenceMs)} ${now > otherNow ? "ahead of" : "behind"} that of ${whose}.`
  return differenceMs < CLOCK_FAIL_MS ? warn("clock", message, SYNC) : fail("clock", message, SYNC)
}

/** Compares the clock with the time that was last stored, which should not be later. */
export const checkStoredTime = (now: number, storedAt: number | undefined): DoctorCheck => {
  if (storedAt === undefined)
    return ok("clock", "The database has not stored a time yet, so there is none to compare the clock with.")
  const back = storedAt - now
  if (back < CLOCK_WARN_MS)
    return ok("clock", `The clock is past the last time that was stored, ${iso(storedAt)}.`)
  const message =
    `The clock is ${roughDuration(back)} behind the last time that was stored, ${iso(storedAt)}: ` +
    "it was set back, or the database comes from a machine whose clock was ahead."
  return back < CLOCK_FAIL_MS ? warn("clock", message, SYNC) : fail("clock", message, SYNC)
}

/**
 * Checks whether there is a master key for the stored secrets. `who` has looked for the key: the engine, or the shell that runs the
 * checks. The environment variables of that shell may be others than those of the engine.
 */
export const checkSecrets = (
  { secrets }: Pick<Condition, "secrets">,
  hasMasterKey: boolean,
  who: "engine" | "shell"
): DoctorCheck => {
  if (secrets === 0) return ok("secrets", "No secrets are stored.")
  const stored = `${count(secrets, "secret")} ${secrets === 1 ? "is" : "are"} stored`
  if (hasMasterKey) return ok("secrets", `${stored}, and there is a master key.`)
  const advice =
    "Start the engine with IRONFLOW_MASTER_KEY set to the key with which the secrets were stored."
  return who === "engine"
    ? fail(
        "secrets",
        `${stored}, and the engine has no master key: functions that need a secret do not run.`,
        advice
      )
    : warn(
        "secrets",
        `${stored}. This shell has no master key, so it is unknown whether the engine has one.`,
        advice
      )
}

export const checkApiKeys = (keys: number): DoctorCheck =>
  keys > 0
    ? ok("keys", `Every call needs an API key. There ${keys === 1 ? "is 1" : `are ${keys}`}.`)
    : warn(
        "keys",
        "There are no API keys: whoever reaches the port may do everything.",
        "Make one with `ironflow apikeys create`, unless only this machine, or a network that you trust, reaches the port."
      )

export const checkDeadLetters = ({ deadLetters }: Pick<Condition, "deadLetters">): DoctorCheck => {
  if (deadLetters.length === 0) return ok("dead letters", "There are none.")
  const shown = deadLetters.slice(0, MAX_EXAMPLES).map(({ count, environment, name, of }) => {
    const many = count >= MAX_COUNTED_DEAD_LETTERS ? `${MAX_COUNTED_DEAD_LETTERS} or more` : String(count)
    return `${of === "group" ? "group" : "projection"} "${name}" of environment ${environment} has ${many}`
  })
  return warn(
    "dead letters",
    `${shown.join("; ")}${deadLetters.length > MAX_EXAMPLES ? `; and ${deadLetters.length - MAX_EXAMPLES} more have some` : ""}.`,
    "Look at them with `ironflow projections dead-letters NAME` or `ironflow groups dead-letters NAME`, remove the cause, and retry them with `ironflow projections retry NAME` or `ironflow groups retry NAME`."
  )
}

/** An operation that has stored no progress for this long is reported. An operation normally stores its progress once a second. */
const STALLED_MS = 60_000

/**
 * Checks whether bulk operations make progress. `now` is the time of the check by the clock of the database. Without an engine,
 * none makes progress.
 */
export const checkOperations = (
  { operations }: Pick<Condition, "operations">,
  now: number,
  hasEngine: boolean
): DoctorCheck => {
  if (operations.length === 0) return ok("bulk operations", "None is in progress.")
  const many = `${count(operations.length, "bulk operation")} ${operations.length === 1 ? "has" : "have"} not ended`
  if (!hasEngine)
    return ok(
      "bulk operations",
      `${many}. An engine continues ${operations.length === 1 ? "it" : "them"} when it starts.`
    )
  const stalled = operations.filter(({ updatedAt }) => now - updatedAt >= STALLED_MS)
  if (stalled.length === 0)
    return ok(
      "bulk operations",
      `${many}, and ${operations.length === 1 ? "it makes" : "all make"} progress.`
    )
  const shown = stalled
    .slice(0, MAX_EXAMPLES)
    .map(
      ({ action, environment, id, updatedAt }) =>
        `${id} (${action}, environment ${environment}) has made no progress for ${roughDuration(now - updatedAt)}`
    )
  return warn(
    "bulk operations",
    `${shown.join("; ")}${stalled.length > MAX_EXAMPLES ? `; and ${stalled.length - MAX_EXAMPLES} more` : ""}.`,
    "`ironflow bulk get ID` says how far the operation is, the log of the engine says why it does not go on, and `ironflow bulk cancel ID` ends it."
  )
}

/** The check warns when the last backup is older than this. */
const OLD_BACKUP_MS = 7 * 24 * 3_600_000

/** Checks whether there is a recent backup. `now` is the time of the check. */
export const checkBackups = ({ lastBackup }: Pick<Condition, "lastBackup">, now: number): DoctorCheck => {
  const advice = "Make one with `ironflow backup FILE`, each day, and keep it on another machine."
  if (lastBackup === undefined) {
    return warn(
      "backups",
      "The engine has made no backup of this database. Backups by `ironflow backup --data` and by other tools are not recorded.",
      advice
    )
  }
  const age = Math.max(0, now - lastBackup.at)
  const message = `The last one was made ${iso(lastBackup.at)}, ${formatDuration(Math.floor(age / 1000) * 1000)} ago, and has ${formatSize(lastBackup.bytes)}.`
  return age > OLD_BACKUP_MS ? warn("backups", message, advice) : ok("backups", message)
}

/** With one of these reasons, a run goes on only after somebody has done something about it. */
const STOPPING_REASONS = new Set<string>(["STUCK", "DAMAGED"] satisfies ReadonlyArray<ReasonCode>)

/**
 * Checks whether runs go on. `explained` are some of the unfinished runs, including the runs that have waited longest. Without an
 * engine, every run waits for a worker, so this is not reported. `stuck` is how many stuck runs the engine has counted.
 */
export const checkRuns = (
  { unfinishedCount }: Pick<Condition, "unfinishedCount">,
  explained: ReadonlyArray<Explanation>,
  { hasEngine, stuck = 0 }: { readonly hasEngine: boolean; readonly stuck?: number }
): DoctorCheck => {
  const many =
    unfinishedCount >= MAX_COUNTED_RUNS
      ? `${MAX_COUNTED_RUNS} or more runs have`
      : `${count(unfinishedCount, "run")} ${unfinishedCount === 1 ? "has" : "have"}`
  const open = unfinishedCount === 0 ? "Every run has ended." : `${many} not ended.`
  const isLate = ({ details }: Explanation): boolean =>
    hasEngine && typeof details.waitingMs === "number" && details.waitingMs >= MAX_READY_MS
  const harmfulRuns = explained.filter(({ code }) => STOPPING_REASONS.has(code))
  const waiting = explained.filter(
    (one) => !STOPPING_REASONS.has(one.code) && (one.code === "PAUSED" || isLate(one))
  )
  const reported = [...harmfulRuns, ...waiting]
  if (reported.length === 0 && stuck === 0) {
    return ok(
      "runs",
      `${open}${unfinishedCount === 0 || !hasEngine ? "" : unfinishedCount === 1 ? " It is not stuck." : " None of them is stuck."}`
    )
  }
  const shown = reported
    .slice(0, MAX_EXAMPLES)
    .map(({ code, message, runId }) => ` ${runId}: ${code}, ${message}`)
    .join("")
  const rest =
    reported.length > MAX_EXAMPLES
      ? ` ${reported.length - MAX_EXAMPLES} more of the runs that were looked at ${reported.length - MAX_EXAMPLES === 1 ? "has" : "have"} such a reason.`
      : ""
  const counted =
    stuck === 0 ? "" : ` ${count(stuck, "run")} will not go on by ${stuck === 1 ? "itself" : "themselves"}.`
  return {
    name: "runs",
    status: harmfulRuns.length > 0 || stuck > 0 ? "fail" : "warn",
    message: `${open}${counted}${shown}${rest}`,
    advice: "`ironflow runs why RUN` says more about a run, and docs/reasons.md what to do about each reason."
  }
}

export const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`

const iso = (at: number): string => new Date(at).toISOString()
