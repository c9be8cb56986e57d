/** Checks the configuration of a function. */
import { resolveRetry, type RetryConfig } from "./Backoff.ts"
import { type Duration, positiveDuration } from "./Duration.ts"
import { ValidationError } from "./Errors.ts"
import type { FunctionConfig } from "./Function.ts"
import { isObject } from "./Json.ts"
import { keptRuns } from "./KeepRuns.ts"
import { checkName, declaredListLength, descriptionLength, nameLength, searchPaths } from "./Limits.ts"
import { encodeMetadata } from "./Metadata.ts"
import { isDataPath } from "./DataPath.ts"
import { inSentence, show } from "./Show.ts"
import { isSchema } from "./StandardSchema.ts"
import { checkTrigger } from "./Trigger.ts"
import { versionings } from "./Versioning.ts"

/** How long the entries of the audit record of a run may be kept. */
export const recordingRetentions = ["7d", "30d", "90d", "forever"] as const

/** A configuration before it is checked: untyped code may have made it. */
type Unchecked = { readonly [K in keyof FunctionConfig]?: unknown }

/**
 * Checks the members that a configuration may have, and ignores unknown ones. Throws `ValidationError` or
 * `LimitExceededError`.
 */
export function checkConfig(config: unknown): asserts config is FunctionConfig {
  if (!isObject(config))
    throw new ValidationError(
      `The configuration of a function must be an object such as { id, triggers }, got ${show(config)}`
    )
  const unchecked: Unchecked = config
  checkFunctionId(unchecked.id)
  const label = `Function ${show(unchecked.id, nameLength)}`
  for (const [field, check] of Object.entries(checks)) {
    const value = unchecked[field as keyof FunctionConfig]
    if (value === undefined && field !== "triggers") continue
    check(value, label)
  }
}

const checkFunctionId = (id: unknown): void => {
  const checked = checkName("function id", id)
  if (/[\s*>]/.test(checked)) {
    throw new ValidationError(
      `The function id "${checked}" must not contain white space, * or >; write it like "process-order"`
    )
  }
}

type Check = (value: unknown, label: string) => void

const must =
  (field: string, rule: string, holds: (value: unknown) => boolean): Check =>
  (value, label) => {
    if (!holds(value)) throw new ValidationError(`${label}: \`${field}\` must be ${rule}, got ${show(value)}`)
  }

const isDottedPath = (value: unknown): boolean => typeof value === "string" && isDataPath(value)
const isEventPath = (value: unknown): boolean =>
  isDottedPath(value) && /^(?:\$\.)?event[.[]/.test(String(value))
const pathRule = 'a dotted path from `event`, such as "event.data.customerId"'

const checks: { readonly [K in keyof FunctionConfig]?: Check } = {
  name: must(
    "name",
    `a string of at most ${nameLength} characters that is not blank`,
    (value) => typeof value === "string" && value.trim() !== "" && value.length <= nameLength
  ),
  description: must(
    "description",
    `a string of at most ${descriptionLength} characters`,
    (value) => typeof value === "string" && value.length <= descriptionLength
  ),
  triggers: (triggers, label) => {
    must("triggers", `an array of 0 to ${declaredListLength} triggers`, isShortArray)(triggers, label)
    for (const [i, trigger] of (triggers as ReadonlyArray<unknown>).entries()) {
      checkTrigger(trigger, `${label}: \`triggers[${i}]\``)
    }
  },
  retry: (retry, label) => {
    resolveRetry(retry as RetryConfig, `retry of ${inSentence(label)}`)
  },
  timeout: must(
    "timeout",
    "a positive, finite number of milliseconds",
    (value) => typeof value === "number" && Number.isFinite(value) && value > 0
  ),
  concurrency: (concurrency, label) => {
    must("concurrency", "an object such as { limit: 10 }", isObject)(concurrency, label)
    const { limit, key } = concurrency as { readonly limit?: unknown; readonly key?: unknown }
    must(
      "concurrency.limit",
      "an integer, at least 1",
      (value) => Number.isSafeInteger(value) && Number(value) >= 1
    )(limit, label)
    if (key !== undefined) must("concurrency.key", pathRule, isEventPath)(key, label)
  },
  mode: must("mode", '"push" or "pull"', (value) => value === "push" || value === "pull"),
  actorKey: must("actorKey", pathRule, isEventPath),
  searchBy: (searchBy, label) => {
    must(
      "searchBy",
      `an array of at most ${searchPaths} dotted paths, no two the same, such as ["event.data.orderId"]`,
      (value) => Array.isArray(value) && value.length <= searchPaths && new Set(value).size === value.length
    )(searchBy, label)
    for (const [i, path] of (searchBy as ReadonlyArray<unknown>).entries()) {
      must(
        `searchBy[${i}]`,
        `a dotted path from \`event\` of at most ${nameLength} characters, such as "event.data.orderId"`,
        (value) =>
          isDottedPath(value) && /^event[.[]/.test(String(value)) && String(value).length <= nameLength
      )(path, label)
    }
  },
  schema: must("schema", "a Standard Schema (Zod, Valibot, ArkType) or an Effect schema", isSchema),
  secrets: (secrets, label) => {
    must("secrets", `an array of at most ${declaredListLength} secret names`, isShortArray)(secrets, label)
    for (const secret of secrets as ReadonlyArray<unknown>) {
      checkName(`name of a secret of ${inSentence(label)}`, secret)
    }
  },
  stepTimeout: (stepTimeout, label) => {
    positiveDuration(stepTimeout as Duration, `\`stepTimeout\` of ${inSentence(label)}`)
  },
  recording: must("recording", "true or false", (value) => typeof value === "boolean"),
  recordingRetention: must(
    "recordingRetention",
    `one of ${recordingRetentions.map((word) => `"${word}"`).join(", ")}`,
    (value) => typeof value === "string" && (recordingRetentions as ReadonlyArray<string>).includes(value)
  ),
  version: must(
    "version",
    `a string of at most ${nameLength} characters that is not blank, such as "2"`,
    (value) => typeof value === "string" && value.trim() !== "" && value.length <= nameLength
  ),
  versioning: must(
    "versioning",
    versionings.map((word) => `"${word}"`).join(" or "),
    (value) => typeof value === "string" && (versionings as ReadonlyArray<string>).includes(value)
  ),
  keepRuns: (keepRuns, label) => {
    keptRuns(keepRuns, `\`keepRuns\` of ${inSentence(label)}`)
  },
  metadata: (metadata, label) => {
    encodeMetadata(`${label}: \`metadata\``, metadata)
  }
}

const isShortArray = (value: unknown): boolean => Array.isArray(value) && value.length <= declaredListLength
