/** Requests of one connection of HTTP/1.1. */
import { once } from "node:events"
import * as http from "node:http"
import { nextTick } from "node:process"
import { assert, describe, it } from "vitest"
import { Pipelines } from "../../src/Server/Http/Pipeline.ts"
import { RawSocket } from "../wire/RawSocket.ts"

describe("a request whose connection ends", () => {
  it("affects no other request, even when its reader stops listening just before", async () => {
    const server = http.createServer()
    void new Pipelines(server)
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    try {
      const address = server.address()
      assert(typeof address === "object" && address !== null)
      const begun = once(server, "request")
      using socket = await RawSocket.open(address.port)
      await socket.send("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n12345")
      const [request] = (await begun) as [http.IncomingMessage]
      const read = (): void => undefined
      request.on("error", read)
      // Node.js checks for listeners when the connection ends, and emits the error two ticks later
      request.once("aborted", () => nextTick(() => nextTick(() => request.off("error", read))))
      // `once` would also listen for errors
      const said = new Promise<void>((resolve) => request.on("close", () => resolve()))
      socket.socket.resetAndDestroy()

      await said
      assert.strictEqual(request.errored?.message, "aborted")
    } finally {
      server.close()
    }
  })
})
