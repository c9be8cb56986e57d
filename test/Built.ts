/**
 * The package as users get it, for processes that tests start. It is built once for each state of the sources. A process
 * with the build starts in less than half of the time that it takes to load the sources. `IRONFLOW_TEST_SOURCES=1` makes it
 * load the sources.
 */
import { execFileSync } from "node:child_process"
import { hash } from "node:crypto"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"
import { pathToFileURL } from "node:url"

const repository = path.join(import.meta.dirname, "..")
const builds = path.join(repository, "node_modules/.cache/ironflow-built")

/** The files and folders that a build depends on. */
const buildInputs = ["src", "console.config.ts", "tsup.config.ts", "package.json", "package-lock.json"]

const hashOfSources = (): string => {
  const hashes = buildInputs.flatMap((name) => {
    const fullPath = path.join(repository, name)
    const files = fs.statSync(fullPath).isDirectory()
      ? fs
          .readdirSync(fullPath, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => path.join(entry.parentPath, entry.name))
      : [fullPath]
    return files.sort().map((file) => `${file} ${hash("sha256", fs.readFileSync(file))}`)
  })
  return hash("sha256", hashes.join("\n")).slice(0, 16)
}

/**
 * Builds the package into a folder, with its `package.json`. Several processes that build at the same time do not disturb
 * each other.
 */
const build = (folder: string): void => {
  const own = `${folder}.${process.pid}`
  fs.mkdirSync(own, { recursive: true })
  fs.copyFileSync(path.join(repository, "package.json"), path.join(own, "package.json"))
  execFileSync(
    process.execPath,
    [path.join(repository, "node_modules/tsup/dist/cli-default.js"), "--silent"],
    {
      cwd: repository,
      env: { ...process.env, IRONFLOW_BUILD_FOLDER: path.join(own, "dist") }
    }
  )
  try {
    fs.renameSync(own, folder)
  } catch (error) {
    fs.rmSync(own, { recursive: true, force: true })
    // another process was faster
    if (!fs.existsSync(folder)) throw error
  }
  for (const old of fs.readdirSync(builds)) {
    const ageMs = Date.now() - fs.statSync(path.join(builds, old)).mtimeMs
    if (ageMs > 86_400_000) fs.rmSync(path.join(builds, old), { recursive: true, force: true })
  }
}

let known: string | undefined

/** The folder of the built package, with its `package.json` and `dist`. */
export const builtPackage = (): string => {
  if (known !== undefined) return known
  const folder = path.join(builds, hashOfSources())
  if (!fs.existsSync(folder)) build(folder)
  known = folder
  return folder
}

const fromSources = process.env.IRONFLOW_TEST_SOURCES === "1"

/** The folder that a process uses as `@ironflow/node`: that of the build, or this repository. */
export const packageFolder = (): string => (fromSources ? repository : builtPackage())

/** Arguments for Node.js with which a program in this repository, or in a folder beside it, finds `@ironflow/node`. */
export const nodeArguments = (): ReadonlyArray<string> =>
  fromSources
    ? ["--conditions=@ironflow/source", "--disable-warning=ExperimentalWarning"]
    : [`--import=${findsBuilt(builtPackage())}`, "--disable-warning=ExperimentalWarning"]

/** Arguments for Node.js that run `ironflow`. */
export const commandArguments = (): ReadonlyArray<string> =>
  fromSources
    ? ["--conditions=@ironflow/source", path.join(repository, "src/bin.ts")]
    : [path.join(builtPackage(), "dist/bin.js")]

/**
 * A module that makes every import of `@ironflow/node` resolve to a folder: to the resolver, the import comes from that
 * package, and a package finds itself first.
 */
const findsBuilt = (folder: string): string => {
  const parentURL = pathToFileURL(path.join(folder, "package.json")).href
  return `data:text/javascript,${encodeURIComponent(
    `import { registerHooks } from "node:module"
registerHooks({
  resolve: (asked, context, next) =>
    next(asked, /^@ironflow\\/node(\\/|$)/.test(asked) ? { ...context, parentURL: ${JSON.stringify(parentURL)} } : context)
})`
  )}`
}
