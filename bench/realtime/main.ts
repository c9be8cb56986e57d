/**
 * Fan-out to subscribers over sockets, compared with plain `ws` that sends the same frame to as many sockets, all in one
 * process: deliveries per second, and their delay. Then, with an engine in a separate process: what idle subscriptions cost,
 * and what emitting costs with a subscriber that never reads. `node --conditions=@ironflow/source bench/realtime/main.ts`
 */
import { fork } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { createDeferred } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { WebSocket, WebSocketServer } from "ws"

const deliveries = 20_000
const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

const receive = async (url: string, subscribers: number, hello?: string) => {
  const done = createDeferred<void>()
  let left = Math.ceil(deliveries / subscribers) * subscribers
  let ready = 0
  const sockets: Array<WebSocket> = []
  // one after the other: a server does not accept a thousand connections at once
  for (let i = 0; i < subscribers; i++) {
    const socket = new WebSocket(url)
    sockets.push(socket)
    socket.on("message", (data) => {
      if (hello !== undefined && String(data).includes("subscription_result")) ready++
      else if (--left === 0) done.resolve()
    })
    await once(socket, "open")
    if (hello !== undefined) socket.send(hello)
  }
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

/** The delay that 99 of 100 deliveries do not exceed, in milliseconds. */
const p99 = async (url: string, hello: string | undefined, send: (at: number) => unknown) => {
  const subscribers = 100
  const messages = 100
  const delays: Array<number> = []
  const sockets: Array<WebSocket> = []
  const all = createDeferred<void>()
  for (let i = 0; i < subscribers; i++) {
    const socket = new WebSocket(url)
    sockets.push(socket)
    await once(socket, "open")
    if (hello !== undefined) {
      socket.send(hello)
      await once(socket, "message")
    }
    socket.on("message", (data) => {
      const now = performance.now()
      delays.push(now - Number(/"at":([\d.]+)/.exec(String(data))?.[1]))
      if (delays.length === subscribers * messages) all.resolve()
    })
  }
  for (let i = 0; i < messages; i++) {
    send(performance.now())
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await all.promise
  for (const socket of sockets) socket.terminate()
  return delays.toSorted((a, b) => a - b)[Math.floor(delays.length * 0.99)]!
}

const text = "x".repeat(100)
const engineUrl = `${engine.url?.replace("http", "ws")}/ws`
const delays = { bare: [] as Array<number>, ours: [] as Array<number> }
for (let round = 0; round < 3; round++) {
  delays.bare.push(
    await p99(bareUrl, undefined, (at) => {
      const frame = Buffer.from(JSON.stringify({ type: "event", topic: "news", data: { text, at } }))
      for (const socket of bare.clients) socket.send(frame, { binary: false })
    })
  )
  delays.ours.push(await p99(engineUrl, hello, (at) => void engine.client.publish("news", { text, at })))
}
console.log(
  `100 subscribers, 50 messages a second: p99 ${median(delays.ours).toFixed(1)} ms after publish was called, bare ws ${median(delays.bare).toFixed(1)} ms`
)
bare.close()
await engine.close()

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
const child = fork(path.join(import.meta.dirname, "engine.ts"), [path.join(folder, "bench.db")], {
  execArgv: ["--conditions=@ironflow/source", "--disable-warning=ExperimentalWarning", "--expose-gc"]
})
try {
  const [{ url }] = await once(child, "message")
  const use = async (): Promise<{ readonly rss: number; readonly heap: number; readonly cpuMs: number }> => {
    child.send("use")
    return (await once(child, "message"))[0]
  }
  const subscribe = async (pattern: string): Promise<WebSocket> => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws`)
    await once(socket, "open")
    socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern } }))
    await once(socket, "message")
    return socket
  }
  const emit = async (count: number): Promise<number> => {
    const started = performance.now()
    let left = count
    const worker = async () => {
      while (left-- > 0) {
        const response = await fetch(`${url}/api/v1/events`, {
          method: "POST",
          body: JSON.stringify({ name: "order.made", data: { text: text.repeat(40) } })
        })
        await response.arrayBuffer()
      }
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    return count / ((performance.now() - started) / 1000)
  }
  const megabytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MB`

  // warms up: compiled code and the buffers of the first connections do not count as a cost of later ones
  await emit(500)
  await Promise.all(Array.from({ length: 50 }, async (_, i) => (await subscribe(`topic:warm.${i}`)).close()))
  const before = await use()
  const idle: Array<WebSocket> = []
  for (let i = 0; i < 1000; i++) idle.push(await subscribe(`topic:idle.${i}`))
  const after = await use()
  console.log(
    `1000 idle connections with a subscription each: RSS ${megabytes(after.rss - before.rss)}, heap ${megabytes(after.heap - before.heap)}`
  )
  for (const socket of idle) socket.terminate()

  // so many events fill the buffers of a subscriber that does not read; further events cost no more because of it
  const fill = 3000
  const eventCount = 1000
  const samples = { alone: [] as Array<number>, beside: [] as Array<number> }
  const ratios = { rate: [] as Array<number>, cpu: [] as Array<number> }
  const grown = { rss: 0, heap: 0 }
  const measure = async () => {
    const start = await use()
    const rate = await emit(eventCount)
    const end = await use()
    return { rate, cpu: (end.cpuMs - start.cpuMs) / eventCount, end }
  }
  // the log and the process grow with each emit, so the same number is emitted with and without such a subscriber
  const measureAlone = async () => {
    await emit(fill)
    return measure()
  }
  const measureBeside = async () => {
    const unread = await subscribe("events:order.*")
    unread.pause()
    await emit(fill)
    const beside = await measure()
    unread.terminate()
    return beside
  }
  const initialUse = await use()
  for (let round = 0; round < 4; round++) {
    const first = round % 2 === 0 ? undefined : await measureBeside()
    const alone = await measureAlone()
    const beside = first ?? (await measureBeside())
    samples.alone.push(alone.rate)
    samples.beside.push(beside.rate)
    ratios.rate.push(beside.rate / alone.rate)
    ratios.cpu.push(beside.cpu / alone.cpu)
    grown.rss = Math.max(grown.rss, beside.end.rss - initialUse.rss)
    grown.heap = Math.max(grown.heap, beside.end.heap - initialUse.heap)
  }
  console.log(
    `emit of 4 kB: ${Math.round(median(samples.alone))}/s, beside a subscriber that never reads ${Math.round(median(samples.beside))}/s: ratio ${median(ratios.rate).toFixed(2)}, CPU time ${median(ratios.cpu).toFixed(2)}; RSS grew by ${megabytes(grown.rss)}, heap by ${megabytes(grown.heap)}`
  )
} finally {
  child.kill("SIGKILL")
  await once(child, "exit")
  fs.rmSync(folder, { recursive: true, force: true })
}
