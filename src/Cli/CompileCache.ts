/**
 * Keeps the compiled code of this package on disk, so that the next command starts sooner.
 *
 * The files are in `node_modules/.cache`, beside the package: who can write there can change the package too. The default
 * of Node.js is the folder for temporary files, where other users of the machine could put code for this one to run.
 */
import nodeModule from "node:module"
import { fileURLToPath } from "node:url"

/**
 * Starts to use the cache, for modules that are loaded from now on. Does nothing if the package is in no `node_modules`
 * folder, or the folder cannot be written. Node.js writes the files when the process ends.
 */
export const useCompileCache = (): void => {
  const [, folder] = /^(.*\/node_modules)\//.exec(import.meta.url) ?? []
  // other runtimes lack this function
  if (folder !== undefined) nodeModule.enableCompileCache?.(fileURLToPath(`${folder}/.cache/ironflow`))
}
