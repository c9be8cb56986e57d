/** Input on WebSockets whose clients have gone. */
import { createServer } from "node:http"
import { type AddressInfo, connect } from "node:net"
import type { Duplex } from "node:stream"
import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { WebSocketServer } from "ws"
import { InputBudget } from "../../src/Engine/InputBudget.ts"
import * as Alarm from "../../src/Execution/Alarm.ts"
import { UnreadMemory } from "../../src/Server/Http/UnreadResponses.ts"
import { Flow } from "../../src/Server/Ws/SocketFlow.ts"

/** A frame of a client: a text of two characters, with a mask of zeros. */
const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x7b, 0x7d])

it.live("remaining input of a closed connection is not processed", () =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const after = yield* Alarm.makeScheduleTimeout
    yield* Effect.promise(async () => {
      const server = createServer()
      const sockets = new WebSocketServer({ noServer: true })
      let heard = 0
      let hold: (socket: Duplex) => void = () => undefined
      const held = new Promise<Duplex>((resolve) => (hold = resolve))
      let close: () => void = () => undefined
      const closed = new Promise<void>((resolve) => (close = resolve))
      server.on("upgrade", (request, socket, head) =>
        sockets.handleUpgrade(request, socket, head, (webSocket) => {
          const flow = new Flow(webSocket, socket, {
            inputBudget: new InputBudget(clock, after),
            unread: new UnreadMemory(clock),
            scheduleTimeout: after,
            timeoutMs: 30_000
          })
          webSocket.on("message", () => {
            if (++heard > 1) return
            flow.pause({})
            hold(socket)
          })
          webSocket.on("close", () => close())
        })
      )
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      const client = connect((server.address() as AddressInfo).port, "127.0.0.1")
      client.write(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
      await new Promise((resolve) => client.once("data", resolve))
      client.write(Buffer.concat(Array.from({ length: 20_000 }, () => frame)))
      const socket = await held
      // wait until more input has arrived
      while (socket.readableLength === 0) await new Promise((resolve) => setImmediate(resolve))
      const before = heard
      client.destroy()
      socket.destroy()
      await closed

      assert.strictEqual(heard, before)
      server.close()
      sockets.close()
    })
  }).pipe(Effect.scoped)
)
