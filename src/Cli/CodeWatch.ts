/** Watches the code in a folder for changes. */
import { type FSWatcher, readdirSync, watch } from "node:fs"
import path from "node:path"

/** Maximum number of folders that are watched. Few projects have as many. */
const MAX_FOLDERS = 1000

const CODE = /\.(?:[cm]?[jt]sx?|json)$/

const isIgnored = (name: string): boolean =>
  name === "node_modules" || name === "dist" || name.startsWith(".")

/**
 * Calls `onChange` with the path of a file, relative to the folder, when code in the folder or below is written,
 * created or removed. Ignores `node_modules`, `dist` and hidden folders. Returns a function that stops watching.
 */
export const watchCode = (folder: string, onChange: (file: string) => void): (() => void) => {
  const watchers = new Map<string, FSWatcher>()

  const removeWatcher = (directory: string): void => {
    watchers.get(directory)?.close()
    watchers.delete(directory)
  }

  const addWatcher = (directory: string): void => {
    if (watchers.has(directory) || watchers.size >= MAX_FOLDERS) return
    try {
      const watcher = watch(directory, (_, name) => {
        if (name === null || isIgnored(name)) return
        const changedPath = path.join(directory, name)
        if (CODE.test(name)) onChange(path.relative(folder, changedPath))
        // a name without an extension may be that of a new folder
        else if (path.extname(name) === "") addWatcher(changedPath)
      })
      watcher.on("error", () => removeWatcher(directory))
      watchers.set(directory, watcher)
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (entry.isDirectory() && !isIgnored(entry.name)) addWatcher(path.join(directory, entry.name))
      }
    } catch {
      // `directory` is not a folder, was removed again, or is not readable: no code is loaded from it
      removeWatcher(directory)
    }
  }

  addWatcher(folder)
  return () => {
    for (const watcher of watchers.values()) watcher.close()
    watchers.clear()
  }
}
