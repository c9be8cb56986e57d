/** `npm run reference`: writes docs/reference. */
import fs from "node:fs"
import path from "node:path"
import { referencePages } from "./Pages.ts"

const folder = path.join(import.meta.dirname, "../../docs/reference")

fs.rmSync(folder, { recursive: true, force: true })
fs.mkdirSync(folder, { recursive: true })
for (const [file, text] of referencePages()) fs.writeFileSync(path.join(folder, file), text)
