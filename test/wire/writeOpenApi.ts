/** Writes `src/Protocol/openapi.json` and `docs/calls.md`: `npm run openapi`. */
import { writeFileSync } from "node:fs"
import { callsPage, openApi } from "./Documentation.ts"

/** JSON with a line for each path and each schema, so that a change of one of them changes one line. */
const lines = (value: unknown, level = 0): string =>
  level === 4 || typeof value !== "object" || value === null || Array.isArray(value)
    ? JSON.stringify(value)
    : `{\n${Object.entries(value)
        .map(
          ([name, member]) =>
            `${JSON.stringify(name)}: ${lines(member, name === "paths" ? 3 : level + 1 + Number(name === "schemas"))}`
        )
        .join(",\n")}\n}`

writeFileSync(new URL("../../src/Protocol/openapi.json", import.meta.url), `${lines(openApi())}\n`)
writeFileSync(new URL("../../docs/calls.md", import.meta.url), callsPage())
