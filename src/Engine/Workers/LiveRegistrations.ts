/** Decides whether the registration of a live worker holds again, because no live worker has the one in force. */
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { type Restorable, registrationHash } from "../Functions/FunctionRows.ts"

/** A worker that has left: the code versions of its functions, by function id. */
export interface Left {
  readonly environment: string
  readonly codeVersions: ReadonlyMap<string, string>
}

/** A live worker's registration of a function. */
export interface LiveRegistration {
  readonly codeVersion: string
  /** When the worker's program started, in epoch milliseconds. Absent for a worker of an engine of an earlier version. */
  readonly startedAt?: number
  /** The hash of the registration, or the registration itself for a worker of this engine. Absent as for `startedAt`. */
  readonly registration?: string | FunctionRegistration
}

/**
 * The registration that may hold again in place of the one in force. `undefined` if a live worker may have the one in force, or
 * if no live worker has the function.
 */
export const restorableOf = (
  inForce: FunctionRegistration,
  live: ReadonlyArray<LiveRegistration>
): Restorable | undefined => {
  if (live.length === 0) return undefined
  const version = codeVersionOf(inForce)
  const hash = registrationHash(inForce)
  const isInForce = ({ codeVersion, registration }: LiveRegistration): boolean =>
    codeVersion === version && (registration === undefined || hashOf(registration) === hash)
  if (live.some(isInForce)) return undefined
  let latest: (LiveRegistration & { readonly startedAt: number }) | undefined
  for (const one of live) {
    const { startedAt } = one
    if (startedAt === undefined) continue
    if (latest === undefined || startedAt > latest.startedAt) latest = { ...one, startedAt }
  }
  return latest?.registration === undefined
    ? undefined
    : {
        functionId: inForce.id,
        registration: latest.registration,
        startedAt: latest.startedAt,
        inForce: hash
      }
}

const hashOf = (registration: string | FunctionRegistration): string =>
  typeof registration === "string" ? registration : registrationHash(registration)
