/** Packs `@ironflow/core` beside the tarball of `@ironflow/node`, because they are released together. Returns the path. */
import { execFileSync } from "node:child_process"
import path from "node:path"

export const packCore = (tarball: string): string => {
  const folder = path.join(import.meta.dirname, "../packages/core")
  const destination = path.dirname(path.resolve(tarball))
  const [packed] = JSON.parse(
    execFileSync("npm", ["pack", "--silent", "--json", "--pack-destination", destination], {
      cwd: folder,
      encoding: "utf8"
    })
  )
  return path.join(destination, packed.filename)
}
