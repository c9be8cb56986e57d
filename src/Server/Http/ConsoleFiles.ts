/**
 * The files of the console, which the build puts beside the engine. They are read once, and requests can only
 * name files that were read.
 */
import { hash } from "node:crypto"
import { readdir, readFile } from "node:fs/promises"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { gzip } from "node:zlib"
import * as Context from "effect/Context"
import { CONSOLE_PATH } from "../../Protocol/Console.ts"

/** A file in the form in which it is sent. */
export interface ConsoleFile {
  readonly bytes: Uint8Array
  readonly gzipped: Uint8Array
  readonly type: string
  /** The ETag with its quotes. */
  readonly etag: string
}

/** The page, and the other files by name. */
export type ConsoleFiles = {
  readonly page: ConsoleFile
  readonly files: ReadonlyMap<string, ConsoleFile>
}

const PAGE = "index.html"

/**
 * The folder with the console's files: beside the modules of a build, or one level above them; in a checkout, the
 * folder of the last build.
 */
const folderOf = (url: string): string => {
  const file = fileURLToPath(url)
  if (file.endsWith(".ts")) return path.join(file, "../../../../dist/console")
  const folder = path.dirname(file)
  return path.join(path.basename(folder) === "cli" ? path.dirname(folder) : folder, "console")
}

/** The folder with the files. */
export const ConsoleFolder = Context.Reference<string>("@ironflow/node/Server/Http/ConsoleFolder", {
  defaultValue: () => folderOf(import.meta.url)
})

const types: { readonly [extension: string]: string } = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8"
}

/**
 * Reads the folder. `base`, such as `/console/`, becomes the base of the relative URLs in the page. Resolves to
 * `undefined` when the console has not been built.
 */
export const readConsole = async (folder: string, base: string): Promise<ConsoleFiles | undefined> => {
  const names = await readdir(folder).catch((): Array<string> => [])
  if (!names.includes(PAGE)) return undefined
  const files = new Map<string, ConsoleFile>()
  for (const name of names) {
    const type = types[path.extname(name)]
    if (type === undefined) continue
    const bytes = await readFile(path.join(folder, name))
    files.set(name, await fileOf(name === PAGE ? Buffer.from(withBase(bytes.toString(), base)) : bytes, type))
  }
  const page = files.get(PAGE)
  files.delete(PAGE)
  return page === undefined ? undefined : { page, files }
}

const compress = promisify(gzip)

const fileOf = async (bytes: Buffer, type: string): Promise<ConsoleFile> => ({
  bytes,
  gzipped: await compress(bytes),
  type,
  etag: `"${hash("sha256", bytes, "base64url").slice(0, 22)}"`
})

const withBase = (page: string, base: string): string => {
  const escaped = base.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;")
  return page
    .replace("<head>", `<head><base href="${escaped}">`)
    .replace(
      "<!--where-->",
      base === CONSOLE_PATH
        ? ""
        : ` The engine serves the console for a proxy: open the address of the proxy, followed by <code>${escaped}</code>.`
    )
}
