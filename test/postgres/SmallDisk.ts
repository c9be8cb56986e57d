/** A small disk: a file system in memory that ends with its process, and that others reach only through that process. */
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmdirSync, rmSync, writeSync, openSync, closeSync } from "node:fs"
import { join } from "node:path"
import { once } from "node:events"
import process from "node:process"
import { openFolder } from "./Server.ts"

const isRoot = process.getuid?.() === 0

/** Without root, mounting needs a separate user namespace. */
const unshare = isRoot ? ["--mount"] : ["--user", "--map-current-user", "--keep-caps", "--mount"]

/** Whether this machine allows it: Linux does, if its container may mount. */
export const canHaveSmallDisk = (): boolean =>
  process.platform === "linux" &&
  spawnSync("unshare", [...unshare, "sh", "-c", "mount -t tmpfs tmpfs /tmp"], { stdio: "ignore" }).status ===
    0

export interface SmallDisk {
  /** The path of the disk for other processes. */
  readonly folder: string
  readonly fill: () => void
  readonly makeRoom: () => void
  readonly close: () => Promise<void>
}

export const makeSmallDisk = async (megabytes: number): Promise<SmallDisk> => {
  const mountPoint = mkdtempSync(join(openFolder(), "ironflow-disk-"))
  // the path goes through this process, so the process has to belong to the user of the server
  const stay = isRoot ? "setpriv --reuid=65534 --regid=65534 --clear-groups cat" : "cat"
  const script = `mount -t tmpfs -o size=${megabytes}m,mode=777 tmpfs "$0" && echo ready && exec ${stay}`
  const holder = spawn("unshare", [...unshare, "sh", "-c", script, mountPoint], {
    // it ends when its input closes
    stdio: ["pipe", "pipe", "inherit"]
  })
  await once(holder.stdout, "data")
  const folder = `/proc/${holder.pid}/root${mountPoint}`
  const filler = join(folder, "filler")
  return {
    folder,
    fill: () => {
      const fd = openSync(filler, "w")
      try {
        for (const chunk of [1024 * 1024, 4096]) {
          try {
            for (;;) writeSync(fd, Buffer.alloc(chunk))
          } catch {
            // no more chunks of this size fit
          }
        }
      } finally {
        closeSync(fd)
      }
    },
    makeRoom: () => rmSync(filler, { force: true }),
    close: async () => {
      const ended = once(holder, "close")
      holder.stdin.end()
      await ended
      rmdirSync(mountPoint)
    }
  }
}
