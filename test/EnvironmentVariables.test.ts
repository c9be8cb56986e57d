import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import { getWebSocketUrl } from "../src/Protocol/Paths.ts"
import { getServerUrl, resolveApiKey, resolveEnvironment } from "../src/EnvironmentVariables.ts"

afterEach(() => {
  vi.unstubAllEnvs()
})

describe("environment variables", () => {
  it.each<readonly [variable: string, value: string]>([
    ["", "http://localhost:9123"],
    ["https://flow.example", "https://flow.example"]
  ])("with IRONFLOW_SERVER_URL=%o the server URL is %s", (variable, url) => {
    vi.stubEnv("IRONFLOW_SERVER_URL", variable)

    assert.strictEqual(getServerUrl(), url)
  })

  it.each<readonly [given: string | undefined, variable: string, name: string]>([
    ["test", "staging", "test"],
    [undefined, "staging", "staging"],
    ["", "staging", "staging"],
    [undefined, "", "default"]
  ])("given %o and IRONFLOW_ENV=%o the environment is %s", (given, variable, name) => {
    vi.stubEnv("IRONFLOW_ENV", variable)

    assert.strictEqual(resolveEnvironment(given), name)
  })

  it.each<readonly [given: string | undefined, variable: string, key: string | undefined]>([
    ["given", "set", "given"],
    [undefined, "set", "set"],
    ["", "set", "set"],
    [undefined, "", undefined]
  ])("given %o and IRONFLOW_API_KEY=%o the API key is %s", (given, variable, key) => {
    vi.stubEnv("IRONFLOW_API_KEY", variable)

    assert.strictEqual(resolveApiKey(given), key)
  })
})

describe("getWebSocketUrl", () => {
  it.each<readonly [string | undefined, string]>([
    [undefined, "ws://localhost:9123/ws"],
    ["http://h:1", "ws://h:1/ws"],
    ["https://h", "wss://h/ws"],
    ["h:1", "h:1/ws"]
  ])("of %o is %s", (url, expected) => {
    assert.strictEqual(getWebSocketUrl(url), expected)
  })
})
