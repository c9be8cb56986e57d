/** The documented examples of the section Testing, unchanged: their own assertions must hold. */
import { execFile } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { expect, test } from "vitest"
import { textOf } from "./Documented.ts"

test(
  "the documented examples of Testing run under vitest, and their assertions hold",
  { timeout: 60_000 },
  async () => {
    const folder = fs.mkdtempSync(path.join(import.meta.dirname, ".examples-"))
    try {
      const [example, compensations] = [textOf("testing.02"), textOf("testing.03")]
      // the second example continues where the first one ends
      fs.writeFileSync(path.join(folder, "documented.test.ts"), `${example}\n${compensations}`)
      const vitest = path.join(import.meta.dirname, "../node_modules/vitest/vitest.mjs")
      const { code, said } = await new Promise<{ code: number; said: string }>((resolve) =>
        execFile(
          process.execPath,
          [vitest, "run", path.relative(process.cwd(), folder), "--maxWorkers=1"],
          { env: { ...process.env, NO_COLOR: "1" } },
          (error, stdout, stderr) => resolve({ code: error === null ? 0 : 1, said: stdout + stderr })
        )
      )

      expect(said).toMatch(/Tests\s+2 passed/)
      expect(code).toBe(0)
    } finally {
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
)
