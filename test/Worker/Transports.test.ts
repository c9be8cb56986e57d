import { describe } from "vitest"
import { createTestEngine } from "../../src/test.ts"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"
import { openInProcess, openRemote } from "./Places.ts"
import { endsLongTimes, keepsLongTimes, keepsShortTimes, whileStopped } from "./TimeSuite.ts"
import { behavesLikeAWorker, type RemotePlace, shop, survivesItsEngine } from "./TransportSuite.ts"

describe("a worker in the engine's process", () => {
  behavesLikeAWorker("memory", openInProcess)
  keepsShortTimes((functions) => shop(openInProcess, functions))
  keepsLongTimes((functions) => shop(openInProcess, functions))
  endsLongTimes(async (functions) => {
    const engine = await createTestEngine()
    await engine.startWorker({ functions })
    return {
      client: engine.client,
      move: (ms) => engine.advance(ms),
      [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose]()
    }
  })
})

const remote = [
  ["polling", "polling", () => openRemote(createWorker)],
  ["effect/rpc", "rpc", () => openRemote(createWorker, { transport: "streaming" })],
  ["ConnectRPC", "connect", () => openRemote(createStreamingWorker)]
] as const

describe.each(remote)("a worker over %s", (_, transport, open) => {
  behavesLikeAWorker(transport, open)
  survivesItsEngine(open)
  keepsShortTimes((functions) => shop<RemotePlace>(open, functions))
  keepsLongTimes((functions) => shop<RemotePlace>(open, functions))
  endsLongTimes(async (functions) => {
    const { [Symbol.asyncDispose]: dispose, client, place } = await shop<RemotePlace>(open, functions)
    const clock = whileStopped(place)
    return {
      client,
      move: clock.move,
      [Symbol.asyncDispose]: async () => {
        await dispose()
        clock[Symbol.dispose]()
      }
    }
  })
})
