/**
 * Identifies the process of a worker, so that an engine on the same machine can see when the process has
 * ended.
 *
 * A closed connection does not tell whether the process ended or the network failed. On Linux `/proc` tells. On other
 * systems, and for an engine on another machine, the end of a process only shows when its leases run out.
 */
import { readFileSync, readlinkSync } from "node:fs"
import type { ProcessIdentity } from "../Protocol/Http/Turns.ts"

/**
 * The identity of a process on this machine, by default of the calling process; `undefined` where the identity cannot
 * be determined.
 */
export const identityOf = (pid = process.pid): ProcessIdentity | undefined => {
  const host = pidScope()
  const stat = statOf(pid)
  return host === undefined || stat === undefined ? undefined : { host, pid, startedAt: stat.startedAt }
}

/** Whether the process has certainly ended; `false` also where nothing can be found out about it. */
export const hasEnded = ({ host, pid, startedAt }: ProcessIdentity): boolean => {
  if (host !== pidScope()) return false
  if (!exists(pid)) return true
  const stat = statOf(pid)
  // a zombie, which waits until its parent notices its end, no longer runs anything
  return stat !== undefined && (stat.startedAt !== startedAt || stat.state === "Z" || stat.state === "X")
}

/** Whether the process exists. Asks the system and not `/proc`, which may hide processes of other users. */
const exists = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ESRCH")
  }
}

/** Identifies the scope in which process ids are unique: a process id namespace of a machine, until the next reboot. */
const pidScope = (): string | undefined =>
  readIfPossible(
    () =>
      `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${readlinkSync("/proc/self/ns/pid")}`
  )

const statOf = (pid: number): { readonly state: string; readonly startedAt: string } | undefined => {
  const text = readIfPossible(() => readFileSync(`/proc/${pid}/stat`, "utf8"))
  if (text === undefined) return undefined
  // the second field is the name in parentheses, which may contain anything: later fields follow the last `)`
  const [state = "", ...rest] = text.slice(text.lastIndexOf(")") + 2).split(" ")
  return { state, startedAt: rest[18] ?? "" }
}

/** The result of `read`; `undefined` when the file is missing or not readable. */
const readIfPossible = (read: () => string): string | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}
