/** The OpenAPI document. It is made when the API changes, and not while a server runs. */
import { readFileSync } from "node:fs"
import { afterAll, assert, it } from "vitest"
import { SDK_VERSION } from "../../src/SdkVersion.ts"
import { callsPage, openApi } from "./Documentation.ts"
import { type Ironflow, start } from "./Ironflow.ts"

let server: Ironflow | undefined
afterAll(() => server?.close())

it("the document is current and is served without making it again: `npm run openapi` writes it", async () => {
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

it("docs/calls.md is current and describes every row: `npm run openapi` writes it", () => {
  const page = readFileSync(new URL("../../docs/calls.md", import.meta.url), "utf8")

  assert.strictEqual(page, callsPage())
  assert.notMatch(page, /\|  \|/)
})
