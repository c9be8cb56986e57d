/** The OpenAPI document: made when the API changes, and never while a server runs. */
import { afterAll, assert, it } from "vitest"
import { openApiDocument } from "../../src/Protocol/Http/Api.ts"
import { SDK_VERSION } from "../../src/Worker/Version.ts"
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
  const made = JSON.parse(JSON.stringify(openApiDocument()))
  assert.deepStrictEqual(document, { ...made, info: { ...made.info, version: SDK_VERSION } })
})
