/** What a stream of a subscription writes to the log, when a problem costs an event and the stream continues. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { make } from "../../src/Client/Subscriptions.ts"
import { makeWirePair } from "../../src/Engine/PubSub/MemoryWire.ts"

it.live.each([
  ["EVENTS_DROPPED", ["Warn 7 events were dropped"]],
  ["NOT_HELD", ["Warn 7 events were dropped"]],
  ["SLOW_CONSUMER", []]
] as const)("a problem with code %s is logged as %j", ([code, expected]) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${String(message)}`))
    const [clientWire, serverWire] = makeWirePair()
    const send = (message: object) => serverWire.send(JSON.stringify(message))
    serverWire.onText = (text) => {
      const { pattern } = JSON.parse(text).subscription
      send({ type: "subscription_result", results: [{ pattern, status: "ok", subscriptionId: "sub-1" }] })
      send({
        type: "subscription_error",
        subscriptionId: "sub-1",
        code,
        message: "7 events were dropped",
        retrying: true
      })
      send({ type: "event", subscriptionId: "sub-1", topic: "news", data: {} })
    }
    const { stream } = make({ wire: () => clientWire })

    yield* Stream.runDrain(Stream.take(stream("topic:news", { backpressure: "drop" }), 1)).pipe(
      Effect.provide(Logger.layer([logger]))
    )

    assert.deepStrictEqual(lines, [...expected])
  })
)
