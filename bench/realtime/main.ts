/**
 * Fan-out to subscribers over sockets, beside bare `ws` that sends the same frame to as many sockets, all in one process.
 * `node --conditions=@ironflow/source bench/realtime/main.ts`
 */
import { createDeferred } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { WebSocket, WebSocketServer } from "ws"

const deliveries = 20_000

const receive = async (url: string, subscribers: number, hello?: string) => {
  const done = createDeferred<void>()
  let left = Math.ceil(deliveries / subscribers) * subscribers
  let ready = 0
  const sockets = await Promise.all(
    Array.from({ length: subscribers }, async () => {
      const socket = new WebSocket(url)
      socket.on("message", (data) => {
        if (hello !== undefined && String(data).includes("subscription_result")) ready++
        else if (--left === 0) done.resolve()
      })
      await new Promise((resolve) => socket.once("open", resolve))
      if (hello !== undefined) socket.send(hello)
      return socket
    })
  )
  while (hello !== undefined && ready < subscribers) await new Promise((resolve) => setImmediate(resolve))
  return { done: done.promise, close: () => sockets.forEach((socket) => socket.terminate()) }
}

const perSecond = async (send: (i: number) => Promise<unknown>, subscribers: number, done: Promise<void>) => {
  const count = Math.ceil(deliveries / subscribers)
  const started = performance.now()
  await Promise.all(Array.from({ length: count }, (_, i) => send(i)))
  await done
  return Math.round((count * subscribers) / ((performance.now() - started) / 1000))
}

const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
const bare = new WebSocketServer({ port: 0, host: "127.0.0.1" })
await new Promise((resolve) => bare.once("listening", resolve))
const address = bare.address()
const bareUrl = `ws://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
const hello = JSON.stringify({ type: "subscribe", subscription: { pattern: "topic:news" } })
const frame = Buffer.from(JSON.stringify({ type: "event", topic: "news", data: { text: "x".repeat(100) } }))

for (const subscribers of [1, 100, 1000]) {
  const plain = await receive(bareUrl, subscribers)
  const limit = await perSecond(
    async () => bare.clients.forEach((socket) => socket.send(frame, { binary: false })),
    subscribers,
    plain.done
  )
  plain.close()
  const ours = await receive(`${engine.url?.replace("http", "ws")}/ws`, subscribers, hello)
  const rate = await perSecond(
    () => engine.client.publish("news", { text: "x".repeat(100) }),
    subscribers,
    ours.done
  )
  ours.close()
  console.log(
    `${subscribers} subscribers: ${rate} deliveries/s, bare ws ${limit}, ratio ${(rate / limit).toFixed(2)}`
  )
}
bare.close()
await engine.close()
