/** The OpenAPI document: made when the API changes, and never while a server runs. */
import { readFileSync } from "node:fs"
import { afterAll, assert, it } from "vitest"
import { SDK_VERSION } from "../../src/Worker/Version.ts"
import { callsPage, openApi } from "./Documentation.ts"
import { type Ironflow, start } from "./Ironflow.ts"

let server: Ironflow | undefined
afterAll(() => server?.close())

it("is sent without making it, and is that of the API: else `npm run openapi`", async () => {
  server = await start()
  const before = process.threadCpuUsage()

  const response = await fetch(`${server.url}/openapi.json`)
  const document = await response.json()

  const { system, user } = process.threadCpuUsage(before)
  assert.isBelow((system + user) / 1000, 250)
  // oxlint-disable-next-line typescript/no-explicit-any -- a document is JSON
  const made = openApi() as any
  assert.deepStrictEqual(document, { ...made, info: { ...made.info, version: SDK_VERSION } })
})

it("says of every row what it is for, as the table of calls in the docs does: else `npm run openapi`", () => {
  const page = readFileSync(new URL("../../docs/calls.md", import.meta.url), "utf8")

  assert.strictEqual(page, callsPage())
  assert.notMatch(page, /\|  \|/)
})
