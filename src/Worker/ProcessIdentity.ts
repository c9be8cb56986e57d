/**
 * Which process a worker is, so that an engine on the same machine can see that it has ended.
 *
 * A connection that closes does not say why: the process may be gone, or the network. Linux tells the two apart in
 * `/proc`. Elsewhere, and on other machines, the end of a process shows when its leases run out.
 */
import { readFileSync, readlinkSync } from "node:fs"
import type { ProcessIdentity } from "../Protocol/Http/Turns.ts"

/** A process of this machine, this one by default; `undefined` where it cannot be told. */
export const identityOf = (pid = process.pid): ProcessIdentity | undefined => {
  const host = hostOf()
  const found = statOf(pid)
  return host === undefined || found === undefined ? undefined : { host, pid, startedAt: found.startedAt }
}

/** Whether the process is sure to have ended. `false` also where that cannot be told. */
export const hasEnded = ({ host, pid, startedAt }: ProcessIdentity): boolean => {
  if (host !== hostOf()) return false
  if (!exists(pid)) return true
  const found = statOf(pid)
  // one that waits for its parent to take note of its end runs nothing any more
  return found !== undefined && (found.startedAt !== startedAt || found.state === "Z" || found.state === "X")
}

/** Asks the system and not `/proc`, which may hide processes of other users. */
const exists = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ESRCH")
  }
}

/** A process id counts within its namespace, on one machine, until that is started again. */
const hostOf = (): string | undefined =>
  readOr(
    () =>
      `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${readlinkSync("/proc/self/ns/pid")}`
  )

const statOf = (pid: number): { readonly state: string; readonly startedAt: string } | undefined => {
  const text = readOr(() => readFileSync(`/proc/${pid}/stat`, "utf8"))
  if (text === undefined) return undefined
  // the name in parentheses may hold anything; the fields after it are the third and those that follow
  const [state = "", ...rest] = text.slice(text.lastIndexOf(")") + 2).split(" ")
  return { state, startedAt: rest[18] ?? "" }
}

/** What is not there, or may not be read, tells nothing. */
const readOr = (read: () => string): string | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}
