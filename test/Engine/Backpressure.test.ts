/** A connection whose client does not keep up: its buffer, its warnings, and its events once the client reads again. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Client } from "../../src/Client/Client.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import type { BackpressureMode, Wire, WSServerMessage } from "../../src/Protocol/Subscriptions.ts"
import { untilQuiet } from "./Quiet.ts"

const live = Engine.layerClientIn("default").pipe(
  Layer.provideMerge(Engine.layer),
  Layer.provide(SqliteStore.layer({ filename: ":memory:" }))
)

/** The engine's end of a connection whose client reads only on `read()`. */
class SlowWire implements Wire {
  onText: (text: string) => void = () => undefined
  onClose: (code: number, reason: string) => void = () => undefined
  onDrain: () => void = () => undefined
  readonly heard: Array<WSServerMessage> = []
  mostWaiting = 0
  #waiting: Array<string> = []

  get backlog(): number {
    return this.#waiting.reduce((sum, frame) => sum + frame.length, 0)
  }

  send(frame: string | Uint8Array): void {
    this.#waiting.push(Buffer.from(frame).toString())
    this.mostWaiting = Math.max(this.mostWaiting, this.backlog)
  }

  read(): void {
    this.heard.push(...this.#waiting.map((frame) => JSON.parse(frame) as WSServerMessage))
    this.#waiting = []
    this.onDrain()
  }

  close(): void {}
  pause(): void {}
  resume(): void {}

  get events(): Array<number> {
    return this.heard.flatMap((one) => (one.type === "event" ? [(one.data as { readonly i: number }).i] : []))
  }

  get errors() {
    return this.heard.flatMap((one) => (one.type === "subscription_error" ? [one] : []))
  }
}

const KB = 1024
const messages = 40

/** Subscribes with a mode, publishes 4 MB in messages of 100 kB while the client does not read, and then reads everything. */
const stall = (backpressure: BackpressureMode) =>
  Effect.gen(function* () {
    const client = yield* Client
    const engine = yield* Engine.Engine
    const wire = new SlowWire()
    const turns = Effect.promise(async () => {
      await untilQuiet()
    })
    engine.subscriptions.connect("default", wire)
    wire.onText(
      JSON.stringify({
        type: "subscribe",
        subscription: { pattern: "topic:news", options: { backpressure } }
      })
    )
    yield* turns
    wire.read()
    for (let i = 0; i < messages; i++) {
      yield* client.publish("news", { i, text: "x".repeat(100 * KB) })
      yield* turns
    }
    for (let before = -1; before !== wire.heard.length;) {
      before = wire.heard.length
      wire.read()
      yield* turns
    }
    const stalled = [...wire.events]
    yield* client.publish("news", { i: messages })
    yield* turns
    wire.read()
    return { wire, stalled }
  }).pipe(Effect.provide(live))

const all = Array.from({ length: messages + 1 }, (_, i) => i)
const frame = 101 * KB

it.effect("the mode `buffer` reports the slow client, buffers a megabyte, and continues from the log", () =>
  Effect.gen(function* () {
    const { wire } = yield* stall("buffer")

    assert.deepStrictEqual(wire.events, all)
    assert.isBelow(wire.mostWaiting, KB * KB + frame)
    assert.isNotEmpty(wire.errors)
    for (const { code, retrying } of wire.errors)
      assert.deepStrictEqual([code, retrying], ["SLOW_CONSUMER", true])
  })
)

it.effect("the mode `block` reports nothing, buffers 64 kB, and continues from the log", () =>
  Effect.gen(function* () {
    const { wire } = yield* stall("block")

    assert.deepStrictEqual(wire.events, all)
    assert.isBelow(wire.mostWaiting, 64 * KB + frame)
    assert.deepStrictEqual(wire.errors, [])
  })
)

it.effect("the mode `drop` buffers a megabyte, drops later events, and reports how many", () =>
  Effect.gen(function* () {
    const { stalled, wire } = yield* stall("drop")

    assert.isBelow(wire.mostWaiting, KB * KB + frame)
    assert.deepStrictEqual(stalled, all.slice(0, stalled.length))
    assert.isBelow(stalled.length, messages)
    assert.deepStrictEqual(wire.events, [...stalled, messages])
    assert.deepStrictEqual(
      wire.errors.map(({ code, message, retrying }) => [code, Number.parseInt(message), retrying]),
      [["EVENTS_DROPPED", messages - stalled.length, true]]
    )
  })
)
