/** Tells when the code in a folder changes. */
import { type FSWatcher, readdirSync, watch } from "node:fs"
import path from "node:path"

/** Most folders that are watched; beyond them it is more than a project. */
const MAX_FOLDERS = 1000

const CODE = /\.(?:[cm]?[jt]sx?|json)$/

const isIgnored = (name: string): boolean =>
  name === "node_modules" || name === "dist" || name.startsWith(".")

/**
 * Calls `onChange` with the path of a file, relative to the folder, whenever code in it or in the folders below is
 * written, made or removed; `node_modules`, `dist` and hidden folders aside. Returns the way to stop that.
 */
export const watchCode = (folder: string, onChange: (file: string) => void): (() => void) => {
  const watchers = new Map<string, FSWatcher>()

  const forget = (directory: string): void => {
    watchers.get(directory)?.close()
    watchers.delete(directory)
  }

  const add = (directory: string): void => {
    if (watchers.has(directory) || watchers.size >= MAX_FOLDERS) return
    try {
      const watcher = watch(directory, (_, name) => {
        if (name === null || isIgnored(name)) return
        const changed = path.join(directory, name)
        if (CODE.test(name)) onChange(path.relative(folder, changed))
        // it may be a folder that is new
        else if (path.extname(name) === "") add(changed)
      })
      watcher.on("error", () => forget(directory))
      watchers.set(directory, watcher)
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (entry.isDirectory() && !isIgnored(entry.name)) add(path.join(directory, entry.name))
      }
    } catch {
      // not a folder, or gone again, or not ours to read: nothing in it is loaded either
      forget(directory)
    }
  }

  add(folder)
  return () => {
    for (const watcher of watchers.values()) watcher.close()
    watchers.clear()
  }
}
