/**
 * Replaces the values of the run's secrets in stored errors and log lines by the secrets' names. A value that
 * was changed (cut, encoded) is not recognized. Results are not touched, since the function chooses them.
 */
import type { SerializedError } from "../Errors.ts"
import type { Job } from "../Protocol/Worker.ts"

/** The minimum length of a value that is replaced: a shorter value may stand in a text by chance. */
const MIN_SECRET_LENGTH = 6

export const withoutSecrets = ({ secrets }: Pick<Job, "secrets">, text: string): string => {
  if (secrets === undefined) return text
  let cleaned = text
  for (const [name, value] of Object.entries(secrets)) {
    if (value.length < MIN_SECRET_LENGTH) continue
    cleaned = cleaned.replaceAll(value, `[secret ${name}]`)
    // the value as it is written inside a JSON string
    const escaped = JSON.stringify(value).slice(1, -1)
    if (escaped !== value) cleaned = cleaned.replaceAll(escaped, `[secret ${name}]`)
  }
  return cleaned
}

/** Replaces the values in every string of an error: message, stack, causes and data. */
export const errorWithoutSecrets = (job: Pick<Job, "secrets">, error: SerializedError): SerializedError =>
  job.secrets === undefined || Object.keys(job.secrets).length === 0
    ? error
    : // the shape is the same: only strings have changed
      (cleanValue(job, error) as SerializedError)

const cleanValue = (job: Pick<Job, "secrets">, value: unknown): unknown => {
  if (typeof value === "string") return withoutSecrets(job, value)
  if (Array.isArray(value)) return value.map((item) => cleanValue(job, item))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, cleanValue(job, member)]))
}
