/**
 * The inputs of the fuzzer. The n-th input of a seed is always the same, except for ids that the server assigned. An input has
 * ended when it was answered, its connection has ended, or no answer is expected.
 */
import { once } from "node:events"
import http2 from "node:http2"
import { connect as connectTo } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { WebSocket } from "ws"
import { type Dice, makeDice } from "../../durability/Plan.ts"
import { accessTo } from "../../../src/Protocol/CallSpec.ts"
import type { CallName } from "../../../src/Protocol/AllCalls.ts"
import { sign } from "../../../src/Serve/Signature.ts"
import { envelope, int, message, struct, text, timestamp } from "../../wire/RawStream.ts"
import { registrationOf } from "../../wire/RawTurnWorker.ts"
import { hpack, http2Frame, PREFACE } from "../Http2Frames.ts"
import { largeBody, mutateBody, mutateBytes, mutateJson, randomBytes } from "./Mutate.ts"
import { inSession, sessionKinds } from "./Sessions.ts"
import { ANSWER_MS, callSpecs, HELD_MS, judge, pathFor, Problem, type Target } from "./Target.ts"

export const transports = [
  "http",
  "http bytes",
  "http2",
  "http2 frames",
  "ws",
  "ws bytes",
  "channel",
  "rpc",
  "connect",
  "session",
  "watch",
  "push answer",
  "serve",
  "webhook"
] as const
export type Transport = (typeof transports)[number]

export interface Input {
  readonly transport: Transport
  /** The input in a readable form. */
  readonly shown: string
  /** Fails with a `Problem` if the answer shows a bug. */
  readonly send: () => Promise<void>
}

/** The dice of one input. */
export const diceFor = (seed: number, index: number): Dice =>
  makeDice(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b))

/** The transports take turns, so that a short run has each. */
export const transportOf = (index: number): Transport => transports[index % transports.length]!

export const inputOf = (seed: number, index: number, target: Target): Input => {
  const dice = diceFor(seed, index)
  const transport = transportOf(index)
  const { send, shown } = makers[transport](dice, target, { seed, index })
  return {
    transport,
    shown: shown.length > 400 ? `${shown.slice(0, 400)}... (${shown.length})` : shown,
    send
  }
}

type Maker = (
  dice: Dice,
  target: Target,
  place: { readonly seed: number; readonly index: number }
) => Pick<Input, "shown" | "send">

const isRare = (dice: Dice, oneIn: number): boolean => dice.between(1, oneIn) === 1

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

interface MadeCall {
  readonly name: CallName
  readonly method: string
  readonly path: string
  readonly body: Buffer | undefined
  readonly headers: { readonly [name: string]: string }
}

const oddHeaders: ReadonlyArray<readonly [string, string]> = [
  ["x-ironflow-environment", "staging"],
  ["x-ironflow-environment", "__proto__"],
  ["x-ironflow-environment", "a/../b"],
  ["authorization", "Bearer"],
  ["authorization", `Bearer ${"x".repeat(5000)}`],
  ["content-type", "text/plain"],
  ["content-type", "application/json; charset=utf-16"],
  ["content-encoding", "gzip"],
  ["if-match", "-1"],
  ["if-match", '"1e400"'],
  ["if-none-match", "*"],
  ["origin", "http://evil.example.com"],
  ["sec-fetch-site", "cross-site"],
  ["host", "evil.example.com"],
  ["connect-timeout-ms", "1e9"],
  ["x-forwarded-for", "127.0.0.1"]
]

const oddQueries = [
  "limit=-1",
  "limit=1e9",
  "limit=99999",
  "cursor=%00",
  "cursor=e30",
  "timeout=-1",
  "timeout=1e99"
]
const oddSegments = [
  "%00",
  "%",
  "%2F",
  "..",
  ".",
  "",
  "__proto__",
  "a".repeat(3000),
  "%F0%9F%98%80",
  "%ff",
  "*",
  "toString"
]

const mutatePath = (dice: Dice, path: string): string => {
  if (isRare(dice, 2))
    return path + (path.includes("?") ? "&" : "?") + dice.pick([...oddQueries, "env=a", "token=a", "a=%"])
  const [way = "", query] = path.split("?")
  const segments = way.split("/")
  segments[dice.between(3, Math.max(3, segments.length - 1))] = dice.pick(oddSegments)
  return segments.join("/") + (query === undefined ? "" : `?${query}`)
}

const makeCall = (dice: Dice, target: Target): MadeCall => {
  const name = dice.pick(target.names)
  const call = target.calls[name]
  const { method } = callSpecs[name]
  const path = pathFor(name, call)
  const hasBody = method !== "GET" && method !== "DELETE"
  const isPlain = isRare(dice, 12)
  const value = call.body ?? {}
  return {
    name,
    method: isRare(dice, 60) ? dice.pick(["HEAD", "OPTIONS", "PROPFIND", "TRACE", "GET", "PUT"]) : method,
    path: isRare(dice, hasBody ? 12 : 2) ? mutatePath(dice, path) : path,
    headers: {
      ...target.headers(dice),
      ...(isRare(dice, 12) ? Object.fromEntries([dice.pick(oddHeaders)]) : {})
    },
    body: !hasBody
      ? undefined
      : isPlain
        ? Buffer.from(JSON.stringify(value))
        : isRare(dice, 150)
          ? largeBody(dice)
          : mutateBody(dice, value)
  }
}

const waits = ({ name, path }: MadeCall): boolean => {
  const rule = accessTo(callSpecs[name])
  return (
    path.includes("timeout") || (typeof rule !== "string" && rule.mayWait === true) || name === "takeJobs"
  )
}

const showCall = ({ body, headers, method, path }: MadeCall): string =>
  `${method} ${path} ${JSON.stringify(headers)} ${body === undefined ? "" : String(body)}`

const makeHttp: Maker = (dice, target) => {
  const call = makeCall(dice, target)
  return {
    shown: showCall(call),
    send: async () =>
      void (await target.call(target.url, call.method, call.path, call.headers, call.body, waits(call)))
  }
}

const makeHttp2: Maker = (dice, target) => {
  const call = makeCall(dice, target)
  const { host: _, ...headers } = call.headers
  return {
    shown: showCall(call),
    send: () =>
      new Promise((resolve, reject) => {
        const session = http2.connect(target.url)
        const end = (error?: unknown): void => {
          clearTimeout(timer)
          session.destroy()
          if (error instanceof Problem) reject(error)
          else resolve()
        }
        const timer = setTimeout(
          () => end(waits(call) ? undefined : new Problem(`did not answer within ${ANSWER_MS} ms`)),
          waits(call) ? HELD_MS * 4 : ANSWER_MS
        )
        session.on("error", () => end())
        session.on("close", () => end())
        try {
          const stream = session.request({
            ":method": call.method,
            ":path": call.path,
            "content-type": "application/json",
            ...headers
          })
          let status = 0
          let answer = ""
          stream.on("error", () => end())
          stream.on("response", (response) => (status = Number(response[":status"])))
          stream.setEncoding("utf8").on("data", (chunk: string) => (answer += chunk))
          stream.on("close", () => {
            try {
              judge({ status, text: answer })
              end()
            } catch (error) {
              end(error)
            }
          })
          stream.end(call.body)
        } catch {
          // the client itself refuses to send that
          end()
        }
      })
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Bytes
// ---------------------------------------------------------------------------------------------------------------------

/** Cuts the bytes at random places. */
const pieces = (dice: Dice, bytes: Buffer): ReadonlyArray<Buffer> => {
  const cuts = Array.from({ length: dice.pick([0, 0, 1, 2, 6]) }, () =>
    dice.between(0, bytes.length)
  ).toSorted((a, b) => a - b)
  return [0, ...cuts].map((from, i) => bytes.subarray(from, cuts[i] ?? bytes.length))
}

/** Sends the parts on a new connection. Returns what was received, once the connection has ended or `heldMs` has passed. */
const exchange = async (port: number, parts: ReadonlyArray<Buffer>, heldMs = HELD_MS): Promise<string> => {
  const socket = connectTo({ port, host: "127.0.0.1", allowHalfOpen: true })
  socket.setNoDelay(true)
  let received = ""
  socket.on("error", () => undefined)
  socket.on("data", (chunk: Buffer) => {
    if (received.length < 20_000) received += chunk.toString("latin1")
  })
  const ended = new Promise<void>((resolve) => {
    socket.once("end", resolve)
    socket.once("close", () => resolve())
  })
  try {
    for (const part of parts) {
      await new Promise<void>((resolve) => socket.write(part, () => resolve()))
      if (parts.length > 1) await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.race([ended, delay(heldMs)])
  } finally {
    socket.destroy()
  }
  return received
}

const judgeBytes = (received: string): void => {
  for (const [, status] of received.matchAll(/^HTTP\/1\.1 (\d{3})/gm)) {
    if (status !== "501" && status !== "505") judge({ status: Number(status), text: received })
  }
  judge({ status: 200, text: received })
}

const chunked = (dice: Dice, body: Buffer): Buffer => {
  const parts: Array<Buffer> = []
  for (let at = 0; at < body.length;) {
    const length = Math.min(body.length - at, dice.pick([1, 2, 7, 100, 5000]))
    const size = isRare(dice, 12)
      ? dice.pick(["-1", "ffffffffffffffff", "0x5", "", "g", `${length.toString(16)};${"x=y;".repeat(2000)}`])
      : length.toString(16)
    parts.push(Buffer.from(`${size}\r\n`), body.subarray(at, at + length), Buffer.from("\r\n"))
    at += length
    if (parts.length > 3000) break
  }
  return Buffer.concat([
    ...parts,
    Buffer.from(dice.pick(["0\r\n\r\n", "0\r\n\r\n", "0\r\nx: y\r\n\r\n", "0\r\n", ""]))
  ])
}

const oddLines = [
  "Host: a\r\nHost: b",
  "Content-Length: 5\r\nContent-Length: 6",
  "Content-Length: -1",
  "Content-Length: 99999999999999999999",
  "Content-Length: 1e3",
  "Transfer-Encoding: chunked\r\nContent-Length: 3",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: x",
  "Expect: 100-continue",
  "Expect: 200-ok",
  "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
  "Upgrade: websocket\r\nConnection: Upgrade",
  "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 1\r\nSec-WebSocket-Key: x",
  "Upgrade: nothing\r\nConnection: Upgrade",
  "Connection: close, close, keep-alive",
  "X: " + "y".repeat(20_000),
  "\u0000: 1",
  " folded: 1",
  ": nameless",
  "A: \u0001"
]

const makeHttpBytes: Maker = (dice, target) => {
  const call = makeCall(dice, target)
  const body = call.body ?? Buffer.alloc(0)
  const isChunked = isRare(dice, 2) && body.length < 500_000
  const lines = [
    `${call.method} ${call.path} HTTP/${dice.pick(["1.1", "1.1", "1.1", "1.1", "1.0", "0.9", "2.0", "3"])}`,
    ...(isRare(dice, 20) ? [] : ["Host: 127.0.0.1"]),
    ...Object.entries(call.headers).map(([name, value]) => `${name}: ${value}`),
    ...(isChunked
      ? ["Transfer-Encoding: chunked"]
      : call.body === undefined
        ? []
        : [`Content-Length: ${body.length}`]),
    ...(isRare(dice, 3) ? [dice.pick(oddLines)] : []),
    ...(isRare(dice, 40) ? Array.from({ length: 3000 }, (_, i) => `a${i}: b`) : [])
  ]
  const head = Buffer.from(`${lines.join(dice.between(1, 20) === 1 ? "\n" : "\r\n")}\r\n\r\n`)
  const whole = Buffer.concat([
    isRare(dice, 3) ? mutateBytes(dice, head) : head,
    isChunked ? chunked(dice, body) : body
  ])
  const times = dice.pick([1, 1, 1, 2, 8])
  const parts = pieces(
    dice,
    Buffer.concat(Array.from({ length: whole.length < 100_000 ? times : 1 }, () => whole))
  )
  return {
    shown: `${parts.length} pieces: ${String(whole)}`,
    send: async () => judgeBytes(await exchange(target.port, parts))
  }
}

const makeHttp2Frames: Maker = (dice, target) => {
  const call = makeCall(dice, target)
  const isStream = isRare(dice, 3)
  const fields: Array<readonly [string, string]> = [
    [":method", isStream ? "POST" : call.method],
    [":path", isStream ? "/ironflow.v1.WorkerService/Connect" : call.path],
    [":scheme", "http"],
    [":authority", "127.0.0.1"],
    ["content-type", isStream ? "application/connect+proto" : "application/json"],
    ...Object.entries(call.headers).filter(([name]) => name !== "host")
  ]
  if (isRare(dice, 4)) {
    fields.splice(
      dice.between(0, fields.length),
      0,
      dice.pick([
        [":path", "/"],
        ["Upper", "a"],
        ["connection", "close"],
        [":odd", "1"],
        ["x", "y".repeat(9000)],
        ["te", "gzip"],
        ["", ""]
      ] as const)
    )
  }
  const head = isRare(dice, 4) ? mutateBytes(dice, hpack(fields)) : hpack(fields)
  const body = (call.body ?? Buffer.from("{}")).subarray(0, 16_000)
  const frames: Array<Buffer> = [http2Frame(4, 0, 0, Buffer.alloc(0))]
  for (let n = dice.between(1, 4), stream = 1; n > 0; n--, stream += 2) {
    const ends = isRare(dice, 3)
    frames.push(http2Frame(1, ends ? 5 : 4, stream, head))
    if (!ends) frames.push(http2Frame(0, isRare(dice, 4) ? 0 : 1, stream, body))
    if (isRare(dice, 4)) frames.push(http2Frame(3, 0, stream, Buffer.from([0, 0, 0, 8])))
  }
  const odd = (): Buffer =>
    dice.pick<() => Buffer>([
      () =>
        http2Frame(
          dice.between(0, 11),
          dice.between(0, 255),
          dice.pick([0, 1, 2, 3, 0x7fffffff, 0x80000001]),
          randomBytes(dice, dice.pick([0, 1, 4, 8, 40]))
        ),
      () => http2Frame(8, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
      () => http2Frame(8, 0, 1, Buffer.from([0, 0, 0, 0])),
      () =>
        http2Frame(
          4,
          0,
          0,
          Buffer.concat(Array.from({ length: 50 }, () => Buffer.from([0, 4, 0xff, 0xff, 0xff, 0xff])))
        ),
      () => Buffer.concat(Array.from({ length: 500 }, () => http2Frame(6, 0, 0, Buffer.alloc(8)))),
      () => Buffer.concat(Array.from({ length: 200 }, () => http2Frame(4, 0, 0, Buffer.alloc(0)))),
      () => Buffer.concat(Array.from({ length: 200 }, () => http2Frame(9, 0, 1, randomBytes(dice, 20)))),
      () =>
        Buffer.concat(
          Array.from({ length: 100 }, (_, i) =>
            Buffer.concat([
              http2Frame(1, 4, 101 + 2 * i, head),
              http2Frame(3, 0, 101 + 2 * i, Buffer.alloc(4))
            ])
          )
        ),
      () => http2Frame(0, 8, 1, Buffer.from([255, 1, 2])),
      () => http2Frame(1, 4, 1, Buffer.from([0x3f, 0xff, 0xff, 0xff, 0x7f])),
      () => http2Frame(7, 0, 0, randomBytes(dice, 8)),
      () => http2Frame(0, 0, 1, body, 0xffffff)
    ])()
  for (let n = dice.between(0, 2); n > 0; n--) frames.splice(dice.between(1, frames.length), 0, odd())
  const whole = Buffer.concat([isRare(dice, 20) ? mutateBytes(dice, PREFACE) : PREFACE, ...frames])
  const parts = pieces(dice, isRare(dice, 5) ? mutateBytes(dice, whole) : whole)
  return {
    shown: `${frames.length} frames in ${parts.length} pieces: ${whole.toString("latin1").replace(/[^ -~]/g, ".")}`,
    send: async () => judgeBytes(await exchange(target.port, parts))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// WebSockets
// ---------------------------------------------------------------------------------------------------------------------

type Frame = string | Buffer

/** Opens a WebSocket, sends the frames, and listens for a moment. The engine may close it at any time. */
const talk = async (
  url: string,
  headers: { readonly [name: string]: string },
  frames: ReadonlyArray<Frame>
): Promise<void> => {
  const socket = new WebSocket(url, { headers, perMessageDeflate: false })
  const ended = new Promise<void>((resolve) => {
    socket.once("close", () => resolve())
    socket.once("error", () => resolve())
  })
  let bug: string | undefined
  let quiet = performance.now()
  socket.on("message", (data) => {
    quiet = performance.now()
    const received = String(data)
    if (/INTERNAL_ERROR|"_tag":"Die"/.test(received)) bug ??= received.slice(0, 500)
  })
  socket.once("close", (code) => {
    if (code === 1011) bug ??= "closed with 1011"
  })
  await Promise.race([once(socket, "open").catch(() => undefined), ended, delay(5000)])
  if (socket.readyState === socket.OPEN) {
    for (const frame of frames) socket.send(frame, () => undefined)
    for (
      const begun = performance.now();
      socket.readyState === socket.OPEN && performance.now() - begun < 3 * HELD_MS;
    ) {
      if (performance.now() - Math.max(quiet, begun) > HELD_MS) break
      await Promise.race([ended, delay(20)])
    }
  }
  socket.terminate()
  if (bug !== undefined) throw new Problem(`sent ${bug}`)
}

const socketUrl = (target: Target, path: string): string => target.url.replace("http", "ws") + path

/** Mostly text with mutated values, sometimes valid values or bytes. */
const oddFrames = (dice: Dice, values: ReadonlyArray<unknown>): ReadonlyArray<Frame> =>
  Array.from({ length: dice.between(1, 5) }, () => {
    const value = dice.pick(values)
    if (isRare(dice, 6)) return JSON.stringify(value)
    const body = isRare(dice, 15)
      ? mutateBytes(dice, Buffer.from(JSON.stringify(value)))
      : Buffer.from(mutateJson(dice, value))
    return isRare(dice, 15) ? body : body.toString()
  })

const showFrames = (frames: ReadonlyArray<Frame>): string =>
  frames.map((frame) => String(frame).slice(0, 400)).join(" | ")

const subscribe = (options: object, pattern = "events:order.*") => ({
  type: "subscribe",
  subscription: { pattern, options }
})
const subscriptionFrames: ReadonlyArray<unknown> = [
  subscribe({ replay: 10, includeMetadata: true, filter: "event.data.total > 1" }),
  subscribe({
    consumerGroup: "printers",
    ackMode: "manual",
    backpressure: "block",
    buffer: { maxBytes: 2048 },
    namespace: "n"
  }),
  subscribe({}, "system.>"),
  subscribe({}, "topic:news"),
  subscribe({}, "entity:order:o-1"),
  subscribe({}, "entity:order.o-1.>"),
  { type: "subscribe", subscription: { pattern: "events:order.*", resume: { after: "1" } } },
  { type: "unsubscribe", subscriptionId: "1" },
  { type: "ack", eventId: "evt_1", ackType: "nak", redeliverDelay: 10, subscriptionId: "1", requestId: 1 }
]

const makeWs: Maker = (dice, target) => {
  const frames = oddFrames(dice, subscriptionFrames)
  const headers = target.headers(dice)
  return { shown: showFrames(frames), send: () => talk(socketUrl(target, "/ws"), headers, frames) }
}

const wsPaths = [
  "/ws",
  "/rpc/worker",
  "/api/v1/channel",
  "/api/v1/config/prices/watch",
  "/api/v1/kv/buckets/carts/watch"
]

const makeWsBytes: Maker = (dice, target) => {
  const headers = target.headers(dice)
  const head = Buffer.from(
    `GET ${dice.pick(wsPaths)} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: ${isRare(dice, 10) ? "8" : "13"}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n` +
      (isRare(dice, 5) ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99\r\n" : "") +
      `${Object.entries(headers)
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join("")}\r\n`
  )
  const frame = (): Buffer => {
    const payload = isRare(dice, 3)
      ? randomBytes(dice, dice.pick([0, 1, 2, 130, 200]))
      : Buffer.from(mutateJson(dice, dice.pick(subscriptionFrames))).subarray(0, 60_000)
    const first = dice.pick([
      0x81,
      0x81,
      0x82,
      0x01,
      0x80,
      0x00,
      0x88,
      0x89,
      0x8a,
      0xc1,
      0x83,
      0x8f,
      dice.between(0, 255)
    ])
    const mask = isRare(dice, 12) ? 0 : 0x80
    const lie = isRare(dice, 10)
    const size = Buffer.alloc(10)
    let length: Buffer
    if (lie) {
      size[0] = mask | 127
      size.writeBigUInt64BE(dice.pick([0xffffffffffffffffn, 0x7fffffffffffffffn, 100_000_000n, 5n]), 1)
      length = size.subarray(0, 9)
    } else if (payload.length < 126) length = Buffer.from([mask | payload.length])
    else {
      size[0] = mask | 126
      size.writeUInt16BE(payload.length, 1)
      length = size.subarray(0, 3)
    }
    return Buffer.concat([Buffer.from([first]), length, ...(mask === 0 ? [] : [Buffer.alloc(4)]), payload])
  }
  const frames = Array.from({ length: dice.pick([1, 2, 3, 30]) }, frame)
  const parts = pieces(dice, Buffer.concat([isRare(dice, 10) ? mutateBytes(dice, head) : head, ...frames]))
  return {
    shown: `${String(head)} ${Buffer.concat(frames)
      .toString("latin1")
      .replace(/[^ -~]/g, ".")}`,
    send: async () => judgeBytes(await exchange(target.port, parts))
  }
}

const makeChannel: Maker = (dice, target) => {
  const messages = Array.from({ length: dice.between(1, 6) }, (_, i) => {
    const { body, method, path } = makeCall(dice, target)
    const written = (body ?? Buffer.alloc(0)).subarray(0, 1_000_000).toString()
    const id = isRare(dice, 15) ? dice.pick(["-1", "1e3", "x", "", "1", "999999999999999999"]) : String(i + 1)
    const length = isRare(dice, 15)
      ? dice.pick(["-1", "0", "1e9", "x", "", "0x3", String(written.length + 1)])
      : String(written.length)
    return isRare(dice, 10)
      ? `${id} CANCEL - 0\n`
      : `${id} ${isRare(dice, 20) ? dice.pick(["GET", "CONNECT", "", "\u0000"]) : method} ${path} ${length}\n${written}`
  })
  const frames = isRare(dice, 3) ? messages : [messages.join("")]
  const sent = isRare(dice, 12)
    ? frames.map((frame) => mutateBytes(dice, Buffer.from(frame)).toString())
    : frames
  const headers = target.headers(dice)
  return { shown: showFrames(sent), send: () => talk(socketUrl(target, "/api/v1/channel"), headers, sent) }
}

const turnsRequest = (id: string) => ({
  worker_id: id,
  function_ids: ["ship-order"],
  capabilities: { turns: 1, renewals: true },
  registration: registrationOf(id, [{ id: "ship-order", event: "order.placed" }]),
  process: { host: "h", pid: 1, startedAt: "1" },
  instance: "instance-1",
  jobs: ["job_1"],
  number: 1
})

const rpcFrames = (target: Target): ReadonlyArray<unknown> => {
  const request = (tag: string, payload: unknown) => ({
    _tag: "Request",
    id: "1",
    tag,
    payload,
    headers: [["a", "b"]]
  })
  return [
    request("work", turnsRequest("worker-rpc")),
    request("report", target.calls.reportTurns.body),
    request("room", { session: "s-1", asked: 5, withdrawn: 0, holding: ["job_1"] }),
    request("late", target.calls.lateTurn.body),
    request("leave", { session: "s-1" }),
    { _tag: "Ack", requestId: "1" },
    { _tag: "Interrupt", requestId: "1" },
    { _tag: "Eof" },
    { _tag: "Ping" }
  ]
}

const makeRpc: Maker = (dice, target) => {
  const values = rpcFrames(target)
  const frames = [...(isRare(dice, 2) ? [JSON.stringify(values[0])] : []), ...oddFrames(dice, values)]
  const headers = target.headers(dice)
  return { shown: showFrames(frames), send: () => talk(socketUrl(target, "/rpc/worker"), headers, frames) }
}

const makeWatch: Maker = (dice, target) => {
  const path = dice.pick([
    "/api/v1/kv/buckets/carts/watch",
    "/api/v1/kv/buckets/carts/watch?key=c-*",
    "/api/v1/config/prices/watch",
    "/api/v1/config/prices/watch?revision=0"
  ])
  const query = dice.pick([
    "revision=-1",
    "revision=1e9",
    "revision=99999999999999999",
    "revision=now",
    "key=**",
    "key=%00",
    `key=${"*a".repeat(500)}`,
    "env=%",
    "token=",
    "a"
  ])
  const odd = isRare(dice, 2) ? mutatePath(dice, path) : path + (path.includes("?") ? "&" : "?") + query
  const frames = isRare(dice, 2) ? [] : oddFrames(dice, [{ type: "watch" }, 1])
  const headers = target.headers(dice)
  // a change for the watch to see
  const change = mutateBody(dice, { a: 1 })
  const admin = target.headers(dice)
  return {
    shown: `${odd} ${showFrames(frames)}`,
    send: async () => {
      const talking = talk(socketUrl(target, odd), headers, frames)
      await target.call(target.url, "POST", "/api/v1/config/prices", admin, change, false)
      await target.call(target.url, "PUT", "/api/v1/kv/buckets/carts/keys/c-1", admin, change, false)
      await talking
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Connect
// ---------------------------------------------------------------------------------------------------------------------

const protoMessages = (target: Target, jobId = "job_1"): ReadonlyArray<Buffer> => {
  const register = (id: string, ...more: ReadonlyArray<Buffer>) =>
    message(
      1,
      text(1, id),
      text(2, "host"),
      text(3, "ship-order"),
      int(4, 5),
      message(5, text(1, "zone"), text(2, "a")),
      message(6, text(1, "0.8.0"), text(2, "node")),
      ...more
    )
  const failed = message(3, text(1, "it broke"), text(2, "CODE"), int(4, 1), struct(5, { a: 1 }))
  return [
    register("worker-proto"),
    register("worker-turns", text(100, JSON.stringify(turnsRequest("worker-turns")))),
    message(
      2,
      text(1, "worker-proto"),
      int(2, 1),
      message(3, text(1, jobId), timestamp(2, 1_700_000_000_000))
    ),
    message(3, text(1, jobId), text(2, "r:charge:0"), text(3, "charge")),
    message(4, text(1, jobId), text(2, "r:charge:0"), struct(3, { paid: 1, to: "me" }), int(4, 10)),
    message(5, text(1, jobId), text(2, "r:charge:0"), failed, int(4, 10)),
    message(6, text(1, jobId), text(2, "r:nap:0"), message(3, timestamp(1, 1_700_000_000_000))),
    message(
      6,
      text(1, jobId),
      text(2, "r:wait:0"),
      message(4, text(1, "order.paid"), text(2, "event.data.id"), text(3, "o-1"))
    ),
    message(6, text(1, jobId), text(2, "r:call:0"), message(100, text(1, "pack-order"), int(3, 1000))),
    message(7, text(1, jobId), struct(2, { ok: 1 }), int(3, 5)),
    message(
      8,
      text(1, jobId),
      failed,
      int(3, 5),
      message(4, text(1, "r:charge:0"), text(2, "charge"), text(3, "invoke"), text(4, "failed"))
    ),
    message(9, text(1, jobId), text(2, "run_1")),
    message(100, int(1, 1), text(2, "report"), text(3, JSON.stringify(target.calls.reportTurns.body))),
    message(100, int(1, 2), text(2, "room"), text(3, '{"session":"s-1","asked":5}')),
    message(100, int(1, 3), text(2, "leave"), text(3, '{"session":"s-1"}'))
  ]
}

/** A `google.protobuf.Struct` with so many nested levels. */
const deepStruct = (levels: number): Buffer => {
  let value: Buffer = text(3, "end")
  for (let i = 0; i < levels && value.length < 300_000; i++)
    value = isEven(i)
      ? message(5, message(1, text(1, "a"), message(2, value)))
      : message(6, message(1, value))
  return message(
    4,
    text(1, "job_1"),
    text(2, "r:deep:0"),
    message(3, message(1, text(1, "a"), message(2, value)))
  )
}
const isEven = (n: number): boolean => n % 2 === 0

const makeConnect: Maker = (dice, target) => {
  const messages = protoMessages(target)
  const odd = (): Buffer => {
    const chosen = dice.pick(messages)
    if (isRare(dice, 12)) return deepStruct(dice.pick([50, 99, 101, 1000, 5000]))
    if (isRare(dice, 5))
      return message(
        100,
        int(1, 9),
        text(2, dice.pick(["report", "room", "late", "toString", "work"])),
        text(3, mutateJson(dice, target.calls.reportTurns.body))
      )
    if (isRare(dice, 6))
      return message(1, text(1, "worker-odd"), text(100, mutateJson(dice, turnsRequest("worker-odd"))))
    return isRare(dice, 4) ? chosen : mutateBytes(dice, chosen)
  }
  const wrap = (payload: Buffer): Buffer => {
    const wrapped = envelope(payload, isRare(dice, 12) ? dice.pick([1, 2, 3, 128, 255]) : 0)
    if (isRare(dice, 15))
      wrapped.writeUInt32BE(dice.pick([0xffffffff, 0x7fffffff, 0, wrapped.length + 100]), 1)
    return wrapped
  }
  const sent = Buffer.concat([
    ...(isRare(dice, 3) ? [] : [envelope(messages[dice.between(0, 1)]!)]),
    ...Array.from({ length: dice.between(1, 5) }, () => wrap(odd()))
  ])
  const parts = pieces(dice, sent)
  const headers = target.headers(dice)
  const type = isRare(dice, 20)
    ? dice.pick(["application/json", "application/grpc", ""])
    : "application/connect+proto"
  return {
    shown: `${parts.length} pieces: ${sent.toString("latin1").replace(/[^ -~]/g, ".")}`,
    send: () =>
      new Promise((resolve, reject) => {
        const session = http2.connect(target.url)
        let received = ""
        const end = (): void => {
          clearTimeout(timer)
          session.destroy()
          // over Connect, a failure of the engine has the code `internal`
          if (/INTERNAL_ERROR|"code":"internal"/.test(received))
            reject(new Problem(`sent ${received.slice(0, 500)}`))
          else resolve()
        }
        const timer = setTimeout(() => end(), HELD_MS)
        session.on("error", end)
        const stream = session.request({
          ":method": "POST",
          ":path": "/ironflow.v1.WorkerService/Connect",
          "content-type": type,
          "connect-protocol-version": "1",
          ...headers
        })
        stream.on("error", () => undefined)
        stream.on("data", (chunk: Buffer) => {
          if (received.length < 20_000) received += chunk.toString("latin1")
        })
        stream.on("close", end)
        for (const part of parts) stream.write(part)
        if (isRare(dice, 2)) stream.end()
      })
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Handlers
// ---------------------------------------------------------------------------------------------------------------------

export const description = {
  type: "description",
  capabilities: { turns: 1 },
  environment: "default",
  functions: registrationOf("w", [{ id: "pushed", event: "order.pushed" }]).functions.map((fn) => ({
    ...fn,
    mode: "push",
    retry: { maxAttempts: 1, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 1000 }
  }))
}

/** Makes the engine call an endpoint that answers garbage: see `Garbage.ts`. */
const makePushAnswer: Maker = (dice, target, { index }) => {
  const headers = target.headers(dice)
  if (isRare(dice, 2)) {
    const url = `${target.garbageUrl}/odd/${index}`
    return {
      shown: `register ${url}`,
      send: async () => {
        const body = Buffer.from(JSON.stringify({ url }))
        const answer = await target.call(target.url, "POST", "/api/v1/push/endpoints", headers, body, true)
        // a bad answer of the endpoint is not the caller's fault: the engine answers 502
        if (answer !== undefined && answer.status < 300) {
          await target.call(
            target.url,
            "DELETE",
            `/api/v1/push/endpoints?url=${encodeURIComponent(url)}`,
            headers,
            undefined,
            false
          )
        }
      }
    }
  }
  const event = { event: "order.pushed", data: { index } }
  return {
    shown: `a turn of order.pushed ${index}`,
    send: async () =>
      void (await target.call(
        target.url,
        "POST",
        "/ironflow.v1.IronflowService/Trigger",
        headers,
        Buffer.from(JSON.stringify(event)),
        false
      ))
  }
}

const SIGNING_KEY = "key of the app"
const job = {
  jobId: "job_1",
  runId: "run_1",
  functionId: "pack-order",
  environment: "default",
  attempt: 1,
  generation: 0,
  event: { id: "evt_1", name: "order.packed", version: 1, data: "{}", timestamp: 1 },
  journal: [
    { stepKey: "pack:0", name: "pack", kind: "run", outcome: { _tag: "Success", value: "1" }, attempt: 1 }
  ],
  open: [{ stepKey: "settle:0", name: "settle", kind: "sleep", failures: 0, pending: true }],
  lingerMs: 10,
  createdAt: 1
}
const segment = {
  run_id: "run_1",
  function_id: "pack-order",
  attempt: 1,
  event: { id: "evt_1", name: "order.packed", data: { id: 1 }, timestamp: "2026-01-02T03:04:05.000Z" },
  steps: [{ id: "run_1:pack:0", name: "pack", status: "completed", output: { a: 1 } }],
  resume: { step_id: "run_1:settle:0", type: "sleep", data: null },
  secrets: { A: "b" }
}

const makeServe: Maker = (dice, target) => {
  const value = dice.pick<unknown>([
    { type: "describe", sent_at: 1 },
    { type: "turn", sent_at: 1, job },
    { type: "turn", sent_at: 1, job: { ...job, jobId: `job_${dice.between(1, 1e6)}` } },
    segment
  ])
  const body = isRare(dice, 200) ? largeBody(dice) : mutateBody(dice, value)
  const isSigned = isRare(dice, 2)
  const headers: Record<string, string> = isSigned
    ? {
        "x-ironflow-signature": isRare(dice, 5)
          ? dice.pick(["sha256=", "sha256=00", "md5=1", "a".repeat(5000)])
          : sign(body, SIGNING_KEY)
      }
    : {}
  const path = isSigned ? "/signed" : "/open"
  return {
    shown: `POST ${path} ${String(body)}`,
    send: async () => void (await target.call(target.appUrl, "POST", path, headers, body, true))
  }
}

const makeWebhook: Maker = (dice, target) => {
  const id = isRare(dice, 5) ? dice.pick(oddSegments) : "stripe"
  const isForm = isRare(dice, 3)
  const body = isForm
    ? mutateBytes(dice, Buffer.from("id=evt_1&type=charge%2Esucceeded&item=a&item=%C3%AB&lone"))
    : mutateBody(dice, { id: "evt_1", type: "charge.succeeded", data: { object: { amount: 10 } } })
  const headers: Record<string, string> = isForm
    ? {
        "content-type": dice.pick([
          "application/x-www-form-urlencoded",
          "multipart/form-data; boundary=x",
          ";"
        ])
      }
    : {}
  return {
    shown: `POST /open/webhooks/${id} ${JSON.stringify(headers)} ${String(body)}`,
    // the app hands the event to the engine, which may refuse it: 5xx then asks the sender to try again
    send: async () => {
      try {
        await target.call(target.appUrl, "POST", `/open/webhooks/${id}`, headers, body, true)
      } catch (error) {
        if (!(error instanceof Problem) || error.message.includes("INTERNAL_ERROR")) throw error
      }
    }
  }
}

/** A worker that has a job sends odd messages about it: see `Sessions.ts`. */
const makeSession: Maker = (dice, target, { index }) => {
  const kind = dice.pick(sessionKinds)
  return {
    shown: `a session over ${kind}`,
    send: () => inSession(dice, target, index, kind, (jobId) => protoMessages(target, jobId))
  }
}

const makers: { readonly [T in Transport]: Maker } = {
  http: makeHttp,
  "http bytes": makeHttpBytes,
  http2: makeHttp2,
  "http2 frames": makeHttp2Frames,
  ws: makeWs,
  "ws bytes": makeWsBytes,
  channel: makeChannel,
  rpc: makeRpc,
  connect: makeConnect,
  session: makeSession,
  watch: makeWatch,
  "push answer": makePushAnswer,
  serve: makeServe,
  webhook: makeWebhook
}
