/** A server URL with `https:` for a port of plain HTTP, and with `http:` for a port of TLS. */
import { createServer as createTls } from "node:https"
import type { AddressInfo } from "node:net"
import { createClient, createSubscriptionClient } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { ConnectionError } from "../../src/Errors.ts"
import { makeCertificate } from "../wire/Certificate.ts"
import { ScriptedServer } from "./ScriptedServer.ts"

const failureOf = async (serverUrl: string): Promise<Error> => {
  const client = createClient({ serverUrl, retry: { maxAttempts: 1 } })
  try {
    await client.getRun("run_1")
  } catch (error) {
    assert.instanceOf(error, ConnectionError)
    return error
  } finally {
    await client.close()
  }
  return assert.fail("there was an answer")
}

describe("a server URL", () => {
  it("with https: for a plain HTTP port is reported with the right URL", async () => {
    await using server = await ScriptedServer.start(() => ({}))
    const url = server.url.replace("http:", "https:")

    const { message } = await failureOf(url)

    assert.strictEqual(
      message,
      `getRun("run_1") failed: the Ironflow server at ${url} speaks HTTP without TLS there: write ${server.url} in \`serverUrl\` or IRONFLOW_SERVER_URL`
    )
  })

  it("with https: for a plain HTTP port is reported to subscribers too", async () => {
    await using server = await ScriptedServer.start(() => ({}))
    const url = server.url.replace("http:", "https:")
    const client = createSubscriptionClient({ serverUrl: url, autoReconnect: false })
    try {
      const error = await client.connect().then(
        () => undefined,
        (error: unknown) => error
      )
      assert.include(String(error), `speaks HTTP without TLS there: write ${server.url}`)
    } finally {
      client.close()
    }
  })

  it("with https: for a plain HTTP port is reported to watchers too", async () => {
    await using server = await ScriptedServer.start(() => ({}))
    await using client = createClient({
      serverUrl: server.url.replace("http:", "https:"),
      retry: { maxAttempts: 1 }
    })

    const error = await client
      .kv()
      .bucket("settings")
      .watch()
      .ready.catch((error: unknown) => error)

    assert.include(String(error), `failed: the server speaks HTTP without TLS there: write ${server.url} in`)
  })

  it("of a server that answers, and accepts no subscriptions, gets no advice to start the server", async () => {
    await using server = await ScriptedServer.start(() => ({ status: 503, body: '{"error":"stops"}' }))
    const client = createSubscriptionClient({ serverUrl: server.url, autoReconnect: false })
    try {
      const error = await client.connect().catch((error: unknown) => error)
      assert.match(String(error), /accepts no subscriptions: Connecting failed with status 503: stops$/)
    } finally {
      client.close()
    }
  })

  it("with http: for a TLS port is reported with the URL to try", async () => {
    const server = createTls(makeCertificate())
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
    const { port } = server.address() as AddressInfo
    try {
      const { message } = await failureOf(`http://127.0.0.1:${port}`)

      assert.match(
        message,
        new RegExp(`closed the connection.*If it speaks TLS there, write https://127\\.0\\.0\\.1:${port}$`)
      )
    } finally {
      server.close()
    }
  })
})
