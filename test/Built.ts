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
const cache = path.join(repository, "node_modules/.cache")

/** The files and folders that a build depends on. */
export const buildInputs: ReadonlyArray<string> = [
  "src",
  "console.config.ts",
  "tsup.config.ts",
  "package.json",
  "package-lock.json"
]

/** A hash of files and of all that is in folders, without tests: no build depends on them. */
const hashOf = (inputs: ReadonlyArray<string>): string => {
  const hashes = inputs.flatMap((name) => {
    const fullPath = path.join(repository, name)
    const files = fs.statSync(fullPath).isDirectory()
      ? fs
          .readdirSync(fullPath, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
          .map((entry) => path.join(entry.parentPath, entry.name))
      : [fullPath]
    return files.sort().map((file) => `${file} ${hash("sha256", fs.readFileSync(file))}`)
  })
  return hash("sha256", hashes.join("\n")).slice(0, 16)
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Takes a lock, a file, for this process. Returns `false` at once if another process has it. */
const tryLock = (lock: string): boolean => {
  try {
    fs.writeFileSync(lock, String(process.pid), { flag: "wx" })
    return true
  } catch (error) {
    if (Object(error).code !== "EEXIST") throw error
  }
  try {
    const holder = Number(fs.readFileSync(lock, "utf8"))
    // it is empty for a moment, between its creation and the first byte
    if (holder !== 0 && !isAlive(holder)) fs.rmSync(lock, { force: true })
  } catch {
    // its holder has just removed it
  }
  return false
}

const tick = new Int32Array(new SharedArrayBuffer(4))

/**
 * A folder below `node_modules/.cache` that is made once for each state of `inputs`. Of several processes that need it at the
 * same time one makes it, and the others wait.
 */
export const keptFolder = (
  name: string,
  inputs: ReadonlyArray<string>,
  make: (folder: string) => void
): string => {
  const all = path.join(cache, name)
  const folder = path.join(all, hashOf(inputs))
  fs.mkdirSync(all, { recursive: true })
  while (!fs.existsSync(folder)) {
    if (!tryLock(`${folder}.lock`)) {
      Atomics.wait(tick, 0, 0, 50)
      continue
    }
    try {
      if (!fs.existsSync(folder)) {
        fs.rmSync(`${folder}.new`, { recursive: true, force: true })
        fs.mkdirSync(`${folder}.new`)
        make(`${folder}.new`)
        fs.renameSync(`${folder}.new`, folder)
        removeOld(all)
      }
    } finally {
      fs.rmSync(`${folder}.lock`, { force: true })
    }
  }
  return folder
}

const removeOld = (all: string): void => {
  for (const old of fs.readdirSync(all)) {
    const ageMs = Date.now() - fs.statSync(path.join(all, old)).mtimeMs
    if (ageMs > 86_400_000) fs.rmSync(path.join(all, old), { recursive: true, force: true })
  }
}

/** Builds the package into a folder, with its `package.json`. */
const build = (folder: string): void => {
  fs.copyFileSync(path.join(repository, "package.json"), path.join(folder, "package.json"))
  execFileSync(
    process.execPath,
    [path.join(repository, "node_modules/tsup/dist/cli-default.js"), "--silent"],
    {
      cwd: repository,
      env: { ...process.env, IRONFLOW_BUILD_FOLDER: path.join(folder, "dist") }
    }
  )
}

let known: string | undefined

/** The folder of the built package, with its `package.json` and `dist`. */
export const builtPackage = (): string => (known ??= keptFolder("ironflow-built", buildInputs, build))

export const fromSources = process.env.IRONFLOW_TEST_SOURCES === "1"

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
