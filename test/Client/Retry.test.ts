/** When calls are retried, and who is notified. */
import { assert, describe, it } from "@effect/vitest"
import { createClient } from "../../src/Promise/Client.ts"
import type { ClientRetryConfig, RetryEvent } from "../../src/Client/Retry.ts"
import { ConnectionError, ValidationError } from "../../src/Errors.ts"
import { ScriptedServer, unusedPort } from "./ScriptedServer.ts"

const quick: ClientRetryConfig = { initialDelayMs: 1, connectionDelayMs: 1 }

describe("retries of the client", () => {
  it("report every attempt that is followed by another one", async () => {
    const server = await ScriptedServer.start(() => ({ status: 503, body: { message: "busy" } }))
    const events: Array<RetryEvent> = []
    await using client = createClient({
      serverUrl: server.url,
      retry: { ...quick, maxAttempts: 4, backoffFactor: 3, onRetry: (event) => void events.push(event) }
    })

    const error = await client.getRun("run_1").catch((error: unknown) => error)
    await server.stop()

    assert.instanceOf(error, ConnectionError)
    assert.strictEqual(server.asked.length, 4)
    assert.deepStrictEqual(
      events.map(({ call, attempt, maxAttempts, delayMs, status }) => [
        call,
        attempt,
        maxAttempts,
        delayMs,
        status
      ]),
      [
        ['getRun("run_1")', 1, 4, 1, 503],
        ['getRun("run_1")', 2, 4, 3, 503],
        ['getRun("run_1")', 3, 4, 9, 503]
      ]
    )
  })

  it("report why there was no answer", async () => {
    const events: Array<RetryEvent> = []
    await using client = createClient({
      serverUrl: `http://127.0.0.1:${await unusedPort()}`,
      retry: { ...quick, maxAttempts: 2, onRetry: (event) => void events.push(event) }
    })

    await client.getRun("run_1").catch(() => undefined)

    assert.strictEqual(events.length, 1)
    assert.instanceOf(events[0]?.error, ConnectionError)
  })

  it("repeat an emit without an idempotency key when no server has received it", async () => {
    const port = await unusedPort()
    let starting: Promise<ScriptedServer> | undefined
    await using client = createClient({
      serverUrl: `http://127.0.0.1:${port}`,
      retry: {
        maxAttempts: 100,
        connectionDelayMs: 20,
        onRetry: () => {
          starting ??= ScriptedServer.start(
            () => ({ body: { eventId: "evt_1", runIds: [], position: "1" } }),
            port
          )
        }
      }
    })

    const { eventId } = await client.emit("order.placed", {})
    const server = await starting
    await server!.stop()

    assert.strictEqual(eventId, "evt_1")
    assert.strictEqual(server!.asked.length, 1)
  })

  it("do not repeat an emit without an idempotency key when a server may have received it", async () => {
    await using server = await ScriptedServer.start(() => "hang up")
    await using client = createClient({ serverUrl: server.url, retry: { ...quick, maxAttempts: 3 } })

    const error = await client.emit("order.placed", {}).catch((error: unknown) => error)

    assert.instanceOf(error, ConnectionError)
    assert.match(error.message, /may have been carried out/)
    assert.strictEqual(server.asked.length, 1)
  })

  it("do not repeat `health`, which reports the current state of the server", async () => {
    const events: Array<RetryEvent> = []
    await using client = createClient({
      serverUrl: `http://127.0.0.1:${await unusedPort()}`,
      retry: { ...quick, onRetry: (event) => void events.push(event) }
    })

    await client.health().catch(() => undefined)

    assert.deepStrictEqual(events, [])
  })

  it("do not happen with one attempt", async () => {
    const server = await ScriptedServer.start(() => ({ status: 429, body: {} }))
    await using client = createClient({ serverUrl: server.url, retry: { maxAttempts: 1 } })

    await client.getRun("run_1").catch(() => undefined)
    await server.stop()

    assert.strictEqual(server.asked.length, 1)
  })

  it("fail the call with the error that the listener throws", async () => {
    const server = await ScriptedServer.start(() => ({ status: 503, body: {} }))
    const thrown = new Error("the listener is broken")
    await using client = createClient({
      serverUrl: server.url,
      retry: {
        ...quick,
        onRetry: () => {
          throw thrown
        }
      }
    })

    const error = await client.getRun("run_1").catch((error: unknown) => error)
    await server.stop()

    assert.strictEqual(error, thrown)
  })

  it.each<[ClientRetryConfig, RegExp]>([
    [{ maxAttempts: 0 }, /`retry\.maxAttempts` must be an integer, at least 1, got 0/],
    [{ maxAttempts: 1.5 }, /`retry\.maxAttempts`/],
    [{ backoffFactor: 0.5 }, /`retry\.backoffFactor` must be a number, at least 1, got 0\.5/],
    [{ initialDelayMs: -1 }, /`retry\.initialDelayMs` must be a number of milliseconds, at least 0, got -1/],
    [{ maxDelayMs: Number.NaN }, /`retry\.maxDelayMs`/],
    [{ connectionDelayMs: Number.POSITIVE_INFINITY }, /`retry\.connectionDelayMs`/]
  ])("are refused when their settings are invalid: %o", (retry, message) => {
    assert.throws(() => createClient({ retry }), ValidationError, message)
  })
})
