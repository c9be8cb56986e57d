/**
 * Makes the package's declarations as a user's compiler reads them: without sources and without internals.
 *
 * They are made once for each state of `src`, and the tests of types share them.
 */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"

export const repository = path.join(import.meta.dirname, "../..")

/** The compiler of this repository. */
export const tsc = path.join(repository, "node_modules/.bin/tsc")

const settings = ["package-lock.json", "tsconfig.json", "tsconfig.build.json"]

/** The folder with the declarations of the current `src`. */
export const makeDeclarations = (): string => {
  const cache = path.join(repository, "node_modules/.cache")
  const folder = path.join(cache, `declarations-${hashOfSources()}`)
  if (fs.existsSync(folder)) return folder

  fs.mkdirSync(cache, { recursive: true })
  const made = fs.mkdtempSync(path.join(cache, "declarations-new-"))
  // `npm run check` checks them; here they only have to exist
  execFileSync(process.execPath, [
    tsc,
    "-p",
    path.join(repository, "tsconfig.build.json"),
    "--outDir",
    made,
    "--noCheck"
  ])
  try {
    fs.renameSync(made, folder)
  } catch (error) {
    // another test has made the same folder meanwhile
    if (!fs.existsSync(folder)) throw error
    fs.rmSync(made, { recursive: true })
  }
  return folder
}

const hashOfSources = (): string => {
  const sources = fs
    .readdirSync(path.join(repository, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => path.join("src", file))
    .toSorted()
  const hash = createHash("sha256")
  for (const file of [...settings, ...sources]) {
    hash.update(`${file}\n`).update(fs.readFileSync(path.join(repository, file)))
  }
  return hash.digest("hex").slice(0, 16)
}

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly types: string }>>
}

/** Where the compiler finds each entry point of the package in a folder of declarations, for `paths` of a tsconfig. */
export const entryPoints = (declarations: string): Record<string, Array<string>> => {
  const manifest: Manifest = JSON.parse(fs.readFileSync(path.join(repository, "package.json"), "utf8"))
  const entries = Object.entries(manifest.exports).flatMap(([entry, target]) =>
    typeof target === "string"
      ? []
      : [
          [`@ironflow/node${entry.slice(1)}`, [target.types.replace("./dist/dts", declarations)]] as [
            string,
            Array<string>
          ]
        ]
  )
  return {
    ...Object.fromEntries(entries),
    "@ironflow/core": [`${declarations}/core.d.ts`],
    "@ironflow/core/protocol": [`${declarations}/protocol.d.ts`]
  }
}
