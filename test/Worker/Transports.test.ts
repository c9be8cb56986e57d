import { describe } from "vitest"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"
import { openHere, openRemote } from "./Places.ts"
import { behavesLikeAWorker, survivesItsEngine } from "./TransportSuite.ts"

describe("a worker in the engine's process", () => {
  behavesLikeAWorker("memory", openHere)
})

const remote = [
  ["polling", "polling", () => openRemote(createWorker)],
  ["effect/rpc", "rpc", () => openRemote(createWorker, { transport: "streaming" })],
  ["ConnectRPC", "connect", () => openRemote(createStreamingWorker)]
] as const

describe.each(remote)("a worker over %s", (_, transport, open) => {
  behavesLikeAWorker(transport, open)
  survivesItsEngine(open)
})
