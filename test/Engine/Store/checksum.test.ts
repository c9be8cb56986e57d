/** A checksum detects a changed backup, and a refused restore leaves no files. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { restoreBackup, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

let folder: string
const pathOf = (name: string): string => join(folder, name)
const refusal = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "it was restored",
    (error: Error & { readonly code: string }) => `${error.code}: ${error.message}`
  )

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ironflow-checksum-"))
  const engine = await startEngine({ filename: pathOf("orders.db"), logger: false })
  for (let i = 0; i < 300; i++)
    await engine.client.emit("order.placed", { customer: `customer ${i} of Vienna` })
  await engine.backup(pathOf("monday.db"))
  await engine.close()
})
afterAll(() => rmSync(folder, { recursive: true }))

describe("a backup", () => {
  it("with one changed character is not restored", async () => {
    const bytes = readFileSync(pathOf("monday.db"))
    const at = bytes.indexOf("customer 7 of Vienna")
    assert.isAbove(at, 0)
    bytes.write("customer 8", at)
    writeFileSync(pathOf("changed.db"), bytes)

    const message = await refusal(restoreBackup({ backup: pathOf("changed.db"), filename: pathOf("new.db") }))

    assert.match(message, /^STORE_CORRUPT: ".*changed\.db" does not match its checksum/)
    assert.deepStrictEqual(readdirSync(folder).toSorted(), [
      "changed.db",
      "monday.db",
      "orders.db",
      "orders.db.lock"
    ])
  })

  it("that is unchanged is restored, and so is one of an earlier version without a checksum", async () => {
    const db = new DatabaseSync(pathOf("monday.db"), { readOnly: true })
    const mark = JSON.parse(String(db.prepare("SELECT value FROM meta WHERE name = 'backup'").get()?.value))
    db.close()
    writeFileSync(pathOf("earlier.db"), readFileSync(pathOf("monday.db")))
    const earlier = new DatabaseSync(pathOf("earlier.db"))
    earlier
      .prepare("UPDATE meta SET value = ? WHERE name = 'backup'")
      .run(JSON.stringify({ madeAt: mark.madeAt }))
    earlier.close()

    const info = await restoreBackup({ backup: pathOf("monday.db"), filename: pathOf("again.db") })
    await restoreBackup({ backup: pathOf("earlier.db"), filename: pathOf("earlier-again.db") })

    assert.match(mark.sha256, /^[0-9a-f]{64}$/)
    assert.strictEqual(info.madeAt, mark.madeAt)
  })
})

describe("a restore that is refused", () => {
  it("leaves no lock behind", async () => {
    writeFileSync(pathOf("letter.txt"), "Dear Ann")
    const message = await refusal(
      restoreBackup({ backup: pathOf("letter.txt"), filename: pathOf("none.db") })
    )

    assert.match(message, /^VALIDATION_ERROR: .*not a SQLite database/)
    assert.deepStrictEqual(
      readdirSync(folder).filter((name) => name.startsWith("none.db")),
      []
    )
  })
})
