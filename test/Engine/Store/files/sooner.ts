/** Makes stores of this thread load `SoonerFile.ts` in place of `SqliteFile.ts`. */
import { registerHooks } from "node:module"

registerHooks({
  resolve: (specifier, context, next) => {
    const found = next(specifier, context)
    return context.parentURL?.endsWith("/src/Engine/Store/Sqlite.ts") === true &&
      found.url.endsWith("/SqliteFile.ts")
      ? { ...found, url: new URL("SoonerFile.ts", import.meta.url).href }
      : found
  }
})
