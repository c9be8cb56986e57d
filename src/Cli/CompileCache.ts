/**
 * Keeps the compiled code of this package, and of the modules with functions that a command loads, on disk, so that the next
 * command starts sooner.
 *
 * The files are in `node_modules/.cache`, beside the package, where few but its owner can write. The default of Node.js is the
 * folder for temporary files, where every user of the machine could put code for this one to run.
 */
import nodeModule from "node:module"
import process from "node:process"
import { fileURLToPath } from "node:url"

/**
 * Starts to use the cache, for modules that are loaded from now on. Does nothing if the package is in no `node_modules`
 * folder, the folder cannot be written, or test coverage is measured, which compiled code makes less precise. Node.js writes the
 * files when the process ends.
 */
export const useCompileCache = (): void => {
  if (process.env.NODE_V8_COVERAGE !== undefined) return
  const [, folder] = /^(.*\/node_modules)\//.exec(import.meta.url) ?? []
  // other runtimes lack this function
  if (folder !== undefined) nodeModule.enableCompileCache?.(fileURLToPath(`${folder}/.cache/ironflow`))
}
