/**
 * What a run stores of errors and lines is without the values of the secrets that it was given: each is replaced by its name. A value
 * that was changed on the way (cut, encoded) nobody recognizes, and results are the function's own to choose.
 */
import type { SerializedError } from "../Errors.ts"
import type { Job } from "../Protocol/Worker.ts"

/** Shorter ones would be found where nobody meant them. */
const SECRET_LENGTH = 6

export const withoutSecrets = ({ secrets }: Pick<Job, "secrets">, text: string): string => {
  if (secrets === undefined) return text
  let shown = text
  for (const [name, value] of Object.entries(secrets)) {
    if (value.length < SECRET_LENGTH) continue
    shown = shown.replaceAll(value, `[secret ${name}]`)
    // as it stands in JSON text
    const escaped = JSON.stringify(value).slice(1, -1)
    if (escaped !== value) shown = shown.replaceAll(escaped, `[secret ${name}]`)
  }
  return shown
}

/** The same of every text in an error: message, stack, causes and its own data. */
export const errorWithoutSecrets = (job: Pick<Job, "secrets">, error: SerializedError): SerializedError =>
  job.secrets === undefined || Object.keys(job.secrets).length === 0
    ? error
    : // the same shape, with other texts
      (shownOf(job, error) as SerializedError)

const shownOf = (job: Pick<Job, "secrets">, value: unknown): unknown => {
  if (typeof value === "string") return withoutSecrets(job, value)
  if (Array.isArray(value)) return value.map((item) => shownOf(job, item))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, shownOf(job, member)]))
}
