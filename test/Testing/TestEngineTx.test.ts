import { createFunction } from "@ironflow/node"
import { createTestEngine, verify } from "@ironflow/node/test"
import { describe, expect, test } from "vitest"

const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
  let bodies = 0
  const { value, writes } = await step.tx("note", (tx) => {
    tx.streams.append("o-1", { name: "order.noted", data: { n: ++bodies }, entityType: "order" })
    return bodies
  })
  await step.sleep("cool-off", "1h")
  return { value, versions: writes.map((write) => write._tag === "append" && write.entityVersion) }
})

describe("a step.tx in the test engine", () => {
  test("is replayed after every step, and verified", async () => {
    await using engine = await createTestEngine({ functions: [order], replayEveryStep: true })
    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.advance("1m")
    const waiting = await engine.history(runIds[0] ?? "")
    const run = await engine.runToEnd(runIds[0] ?? "")

    expect(run).toMatchObject({ status: "completed", output: { value: 1, versions: [1] } })
    expect(await verify(waiting, [order])).toBeUndefined()
    expect(await verify(await engine.history(runIds[0] ?? ""), [order])).toBeUndefined()
  })

  test.for([
    ["keepFirst", 1],
    ["dropFirst", 2]
  ] as const)("writes once when its body runs twice, with %s", async ([repeatSteps, n]) => {
    await using engine = await createTestEngine({ functions: [order], repeatSteps })
    const { runIds } = await engine.client.emit("order.placed", {})
    const run = await engine.runToEnd(runIds[0] ?? "")

    expect(run.output).toEqual({ value: n, versions: [1] })
    const { events } = await engine.client.streams.read("o-1")
    expect(events.map(({ data }) => data)).toEqual([{ n }])
  })
})
