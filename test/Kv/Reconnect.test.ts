/** A watch over HTTP whose server goes away and comes back. */
import { createClient } from "@ironflow/node"
import { expect, it } from "vitest"
import { EngineServer } from "../Client/EngineServer.ts"

it("a watch continues at its position when its server comes back, and misses nothing", async () => {
  await using server = await EngineServer.start()
  await using client = createClient({ serverUrl: server.url })
  await client.kv().createBucket({ name: "orders", history: 10 })
  const bucket = client.kv().bucket("orders")
  let opened = 0
  await using watcher = bucket.watch("o-*", { onOpen: () => void opened++ })
  await watcher.ready
  await bucket.put("o-1", 1)

  await server.stop()
  await server.start()
  // a put is not repeated by the client, and the first one may use the old connection
  await expect
    .poll(() =>
      bucket.put("o-1", 2).then(
        () => true,
        () => false
      )
    )
    .toBe(true)
  await bucket.put("o-2", 3)

  const seen: Array<unknown> = []
  for await (const { value } of watcher) if (seen.push(value) === 3) break
  expect(seen).toEqual([1, 2, 3])
  expect(opened).toBe(2)
})
