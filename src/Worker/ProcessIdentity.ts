/**
 * Identifies the process of a worker, so that an engine on the same machine can see that it has ended.
 *
 * A closed connection does not tell whether the process or the network failed. On Linux `/proc` tells. Elsewhere, and
 * on other machines, the end of a process shows only when its leases run out.
 */
import { readFileSync, readlinkSync } from "node:fs"
import type { ProcessIdentity } from "../Protocol/Http/Turns.ts"

/** The identity of a process of this machine, this one by default; `undefined` where it cannot be determined. */
export const identityOf = (pid = process.pid): ProcessIdentity | undefined => {
  const host = hostOf()
  const found = statOf(pid)
  return host === undefined || found === undefined ? undefined : { host, pid, startedAt: found.startedAt }
}

/** Whether the process has certainly ended; `false` where this cannot be determined. */
export const hasEnded = ({ host, pid, startedAt }: ProcessIdentity): boolean => {
  if (host !== hostOf()) return false
  if (!exists(pid)) return true
  const found = statOf(pid)
  // a zombie, which waits for its parent, runs nothing any more
  return found !== undefined && (found.startedAt !== startedAt || found.state === "Z" || found.state === "X")
}

/** Asks the system instead of `/proc`, which may hide processes of other users. */
const exists = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ESRCH")
  }
}

/** The scope in which a process id is unique: its namespace, on one machine, until the next reboot. */
const hostOf = (): string | undefined =>
  readOr(
    () =>
      `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${readlinkSync("/proc/self/ns/pid")}`
  )

const statOf = (pid: number): { readonly state: string; readonly startedAt: string } | undefined => {
  const text = readOr(() => readFileSync(`/proc/${pid}/stat`, "utf8"))
  if (text === undefined) return undefined
  // the name in parentheses may contain anything; the third field and later ones follow it
  const [state = "", ...rest] = text.slice(text.lastIndexOf(")") + 2).split(" ")
  return { state, startedAt: rest[18] ?? "" }
}

/** The result, or `undefined` for a file that is missing or not readable. */
const readOr = (read: () => string): string | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}
