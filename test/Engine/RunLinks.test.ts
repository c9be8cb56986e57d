/** Links of a run: the runs that its steps have invoked, and the trace that it belongs to. */
import { createClient, createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { assert, it } from "vitest"

const child = createFunction({ id: "child", triggers: [] }, async ({ step }) =>
  step.run("grow", () => "grown")
)
const parent = createFunction({ id: "parent", triggers: [{ event: "family.wanted" }] }, async ({ step }) => {
  await step.run("prepare", () => undefined)
  await step.invoke("child", {})
  return (await step.invokeAsync("child", {})).runId
})

it("a step has the id of the run that it invoked, also after both have ended, and the child has the id of its parent", async () => {
  await using engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [child, parent]
  })
  await using remote = createClient({ serverUrl: engine.url ?? "" })
  for (const client of [engine.client, remote]) {
    const { runIds } = await client.emit("family.wanted", {})
    const run = await client.waitForRun(runIds[0]!)
    const steps = await client.getRunSteps(run.id)
    assert.deepStrictEqual(
      steps.map(({ childRunId, kind }) => [kind, childRunId !== undefined]),
      [
        ["run", false],
        ["invoke", true],
        ["invokeAsync", true]
      ]
    )
    assert.strictEqual(steps[2]!.childRunId, run.output)
    const invoked = await client.getRun(steps[1]!.childRunId!)
    assert.deepStrictEqual([invoked.functionId, invoked.parentRunId], ["child", run.id])
  }
})

it("a run has its trace in every answer, and so does its child", async () => {
  await using engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [child, parent]
  })
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
  const emit = async (headers: Record<string, string>): Promise<string> => {
    const response = await fetch(`${engine.url}/ironflow.v1.IronflowService/Trigger`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ event: "family.wanted", data: {} })
    })
    return ((await response.json()) as { readonly runIds: ReadonlyArray<string> }).runIds[0]!
  }
  await using remote = createClient({ serverUrl: engine.url ?? "" })
  const id = await emit({ traceparent: `00-${traceId}-00f067aa0ba902b7-01` })
  for (const client of [engine.client, remote]) {
    assert.strictEqual((await client.waitForRun(id)).traceId, traceId)
    assert.strictEqual((await client.getRun(id)).traceId, traceId)
    const { runs } = await client.listRuns({ functionId: "parent" })
    assert.strictEqual(runs.find((run) => run.id === id)?.traceId, traceId)
  }
  const { runs } = await remote.listRuns({ functionId: "child" })
  for (const run of runs) assert.match(run.traceId ?? "", /^[0-9a-f]{32}$/)
  const untraced = await remote.waitForRun(await emit({}))
  assert.notProperty(untraced, "traceId")
})
