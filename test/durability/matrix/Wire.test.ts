/** The proxy between worker and engine does the configured harm, and no other. */
import { execFileSync } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import net from "node:net"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { makeDice } from "../Plan.ts"
import { Wire } from "./Wire.ts"

/** A client of the proxy, and the text that it has received. */
class Caller {
  readonly socket: net.Socket
  received = ""
  isClosed = false

  constructor(port: number) {
    this.socket = net.connect(port, "127.0.0.1")
    this.socket.on("data", (chunk) => (this.received += String(chunk)))
    this.socket.on("error", () => undefined)
    this.socket.on("close", () => (this.isClosed = true))
  }
}

let server: net.Server
let wire: Wire
let arrived = ""
beforeEach(async () => {
  arrived = ""
  server = net.createServer((socket) => {
    socket.on("error", () => undefined)
    socket.on("data", (chunk) => {
      arrived += String(chunk)
      socket.write(chunk)
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  wire = new Wire(() => (server.address() as net.AddressInfo).port)
  await wire.listen()
})
afterEach(() => {
  wire.close()
  server.close()
})

/** A connection that has already carried data. */
const connect = async (): Promise<Caller> => {
  const caller = new Caller(wire.port)
  caller.socket.write("a")
  await vi.waitFor(() => assert.strictEqual(caller.received, "a"))
  return caller
}

describe("the wire", () => {
  it("cuts connections in the middle of a write, and refuses new ones", async () => {
    const caller = await connect()

    wire.set({ _tag: "cut" })
    caller.socket.write("1234")

    await vi.waitFor(() => assert.isTrue(caller.isClosed))
    assert.strictEqual(arrived, "a12")
    const next = new Caller(wire.port)
    await vi.waitFor(() => assert.isTrue(next.isClosed))
    wire.set({ _tag: "passing" })
    await connect()
  })

  it("cuts a silent connection too", async () => {
    const caller = await connect()

    wire.set({ _tag: "cut" })

    await vi.waitFor(() => assert.isTrue(caller.isClosed))
  })

  it("drops one direction, and then continues", async () => {
    const caller = await connect()

    wire.set({ _tag: "deaf", towards: "down" })
    caller.socket.write("b")
    await vi.waitFor(() => assert.strictEqual(arrived, "ab"))
    assert.strictEqual(caller.received, "a")
    wire.set({ _tag: "passing" }, true)

    await vi.waitFor(() => assert.strictEqual(caller.received, "ab"))
    assert.isFalse(caller.isClosed)
  })

  it("breaks held connections when it does not heal", async () => {
    const caller = await connect()

    wire.set({ _tag: "deaf", towards: "up" })
    caller.socket.write("b")
    const other = await new Promise<Caller>((resolve) => {
      const caller = new Caller(wire.port)
      caller.socket.write("c", () => resolve(caller))
    })
    // both have arrived at the wire when a third one is accepted
    await once(net.connect(wire.port, "127.0.0.1"), "connect")
    wire.set({ _tag: "passing" })

    await vi.waitFor(() => assert.isTrue(caller.isClosed && other.isClosed))
    assert.strictEqual(arrived, "a")
  })

  it("answers garbage, on open connections and on new ones, and breaks them afterwards", async () => {
    const caller = await connect()

    wire.set({ _tag: "garbage", kind: "unavailable" })
    await vi.waitFor(() => assert.match(caller.received, /^aHTTP\/1.1 503 /))
    const next = new Caller(wire.port)
    next.socket.write("b")
    await vi.waitFor(() => assert.match(next.received, /^HTTP\/1.1 503 /))
    wire.set({ _tag: "passing" })

    await vi.waitFor(() => assert.isTrue(caller.isClosed && next.isClosed))
    assert.strictEqual(arrived, "a")
  })

  it("flips one bit towards the target, and none of the answers", async () => {
    const caller = await connect()

    wire.set({ _tag: "flip", oneIn: 1, dice: makeDice(1) })
    caller.socket.write("b")

    await vi.waitFor(() => assert.lengthOf(caller.received, 2))
    const difference = arrived.charCodeAt(1) ^ "b".charCodeAt(0)
    assert.include([1, 2, 4, 8, 16, 32, 64], difference)
    assert.strictEqual(caller.received, arrived)
  })

  it("passes data on late, in order", async () => {
    const caller = await connect()
    const begun = performance.now()

    wire.set({ _tag: "slow", ms: 60 })
    caller.socket.write("b")
    await vi.waitFor(() => assert.strictEqual(arrived, "ab"))
    caller.socket.write("c")
    wire.set({ _tag: "passing" }, true)
    caller.socket.write("d")

    await vi.waitFor(() => assert.strictEqual(caller.received, "abcd"))
    assert.isAtLeast(performance.now() - begun, 59)
  })
})

it("a process sees a shifted clock everywhere, from its start on, and after a change while it runs", () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-clock-")), "clock")
  fs.writeFileSync(file, "-3600000")
  const program = `
    const seen = [Date.now(), new Date().getTime(), Date.parse(Date()), new Date(7).getTime(), new Date() instanceof Date]
    process.getBuiltinModule("node:fs").writeFileSync(${JSON.stringify(file)}, "60000")
    process.once("SIGUSR2", () => console.log(JSON.stringify([...seen, Date.now()])))
    process.kill(process.pid, "SIGUSR2")
    setTimeout(() => {}, 100)`
  const flags = [
    `--import=${new URL("clock.ts", import.meta.url).href}`,
    "--disable-warning=ExperimentalWarning",
    "-e",
    program
  ]
  const printed = execFileSync(process.execPath, flags, {
    env: { ...process.env, IRONFLOW_TEST_CLOCK: file },
    encoding: "utf8"
  })
  fs.rmSync(path.dirname(file), { recursive: true })
  const [now, made, written, given, isDate, later] = JSON.parse(printed)

  for (const time of [now, made, written]) assert.closeTo(time, Date.now() - 3_600_000, 10_000)
  assert.deepStrictEqual([given, isDate], [7, true])
  assert.closeTo(later, Date.now() + 60_000, 10_000)
})
