/** Stops the shared Postgres server after all tests, if one was started: see `Server.ts`. */
import { existsSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { openFolder, SHARED } from "./Server.ts"

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export const setup = (): (() => Promise<void>) => {
  const folder = join(openFolder(), `ironflow-postgres-${process.pid}`)
  process.env[SHARED] = folder
  return async () => {
    const file = join(folder, "server.json")
    if (existsSync(file)) {
      const { pid } = JSON.parse(readFileSync(file, "utf8"))
      // stop without a last checkpoint: the data is removed anyway
      process.kill(pid, "SIGQUIT")
      for (const until = Date.now() + 10_000; isAlive(pid) && Date.now() < until;) await sleep(20)
    }
    rmSync(folder, { recursive: true, force: true })
  }
}
