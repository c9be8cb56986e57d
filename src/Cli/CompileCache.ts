/**
 * Keeps compiled code on disk, so that the next command starts sooner. Both the code of this package and the user's
 * modules that a command loads are kept. The files are in `node_modules/.cache`, beside the package, where usually only
 * the owner of that folder can write. By default, Node.js uses the folder for temporary files: there, every user of the
 * machine could place code that somebody else would then run.
 */
import nodeModule from "node:module"
import process from "node:process"
import { fileURLToPath } from "node:url"

/**
 * Starts to use the cache, for modules that are loaded from now on. Does nothing if the package is in no `node_modules`
 * folder, if the folder cannot be written, or if test coverage is measured, since the coverage of cached code is less precise.
 * Node.js writes the files when the process ends.
 */
export const useCompileCache = (): void => {
  if (process.env.NODE_V8_COVERAGE !== undefined) return
  const [, folder] = /^(.*\/node_modules)\//.exec(import.meta.url) ?? []
  // other runtimes lack this function
  if (folder !== undefined) nodeModule.enableCompileCache?.(fileURLToPath(`${folder}/.cache/ironflow`))
}
