/** WebSockets and a server that stops. */
import { once } from "node:events"
import type { IncomingMessage } from "node:http"
import { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { assert, describe, it } from "vitest"
import type { UpgradeOptions } from "../../src/Server/Ws/Upgrades.ts"
import { Upgrades } from "../../src/Server/Ws/Upgrades.ts"

/** Upgrades whose access is refreshed for ever, and the fibers that wait for the refresh. */
const setup = () => {
  const fibers: Array<Fiber.Fiber<void>> = []
  const upgrades = new Upgrades({
    routes: [],
    // the other methods are called after the refresh, which never ends
    accessCheck: { requiredRefresh: () => Effect.never } as unknown as UpgradeOptions["accessCheck"],
    flow: {} as UpgradeOptions["flow"],
    onBug: () => undefined,
    onUpgraded: () => undefined,
    run: (effect) => void fibers.push(Effect.runFork(effect))
  })
  const sent: Array<string> = []
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk, _encoding, done) => {
      sent.push(String(chunk))
      done()
    }
  })
  const open = () => upgrades.upgrade({ url: "/ws" } as IncomingMessage, socket, Buffer.alloc(0))
  return { fibers, open, sent, socket, upgrades }
}

describe("a request for a WebSocket", () => {
  it("is cut when the server stops while its access is refreshed", async () => {
    const { fibers, open, socket } = setup()
    const closed = once(socket, "close")
    open()

    for (const fiber of fibers) await Effect.runPromise(Fiber.interrupt(fiber))
    await closed

    assert.strictEqual(fibers.length, 1)
  })

  it("gets 503 when the server has begun to stop", async () => {
    const { fibers, open, sent, upgrades } = setup()
    upgrades.goAway()
    open()

    assert.match(sent.join(""), /^HTTP\/1\.1 503 [^]*"code":"CLOSING"/)
    assert.deepStrictEqual(fibers, [])
  })
})
