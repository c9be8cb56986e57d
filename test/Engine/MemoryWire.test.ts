/** The connection of a subscription client in the process of the engine. */
import { assert, describe, it } from "@effect/vitest"
import { makeWirePair } from "../../src/Engine/PubSub/MemoryWire.ts"

describe("a wire in memory", () => {
  it("counts its backlog in bytes, until the other end has received them", async () => {
    const [near, far] = makeWirePair()
    const received: Array<string> = []
    far.onText = (text) => void received.push(text)
    const drained = new Promise<void>((resolve) => (near.onDrain = resolve))

    near.send("für 5 €")
    const backlog = near.backlog
    await drained

    assert.strictEqual(backlog, Buffer.byteLength("für 5 €"))
    assert.deepStrictEqual([near.backlog, received], [0, ["für 5 €"]])
  })
})
