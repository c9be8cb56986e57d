import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { createFunction, type FunctionHandler } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { IronflowFunction, Step, Testing } from "@ironflow/node/effect"
import { createTestEngine, type RunHistory, verify } from "@ironflow/node/test"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import { commandArguments, nodeArguments } from "../Built.ts"

const define = (handler: FunctionHandler) =>
  createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, handler)

const original = define(async ({ step }) => {
  await step.run("reserve", () => 1)
  await step.run("charge", () => 2)
  await step.sleep("cool-off", "7d")
  await step.run("ship", () => 3)
})

/** Records a history, and returns it as it is read from JSON. */
const record = async (days: "1d" | "8d"): Promise<RunHistory> => {
  await using engine = await createTestEngine({ functions: [original] })
  const { runIds } = await engine.client.emit("order.placed", {})
  await engine.advance(days)
  return JSON.parse(JSON.stringify(await engine.history(runIds[0] ?? "")))
}

test("unchanged code, and new code after the recorded steps, do not diverge from an unfinished history", async () => {
  const history = await record("1d")
  const longer = define(async ({ step }) => {
    await step.run("reserve", () => 1)
    await step.run("charge", () => 2)
    await step.sleep("cool-off", "1d")
    await step.run("label", () => 2)
  })

  expect(history).toMatchObject({ status: "waiting", open: [{ name: "cool-off" }] })
  expect(await verify(history, [original])).toBeUndefined()
  expect(await verify(history, [longer])).toBeUndefined()
  expect(await verify(await record("8d"), [original])).toBeUndefined()
})

test("a renamed, changed, removed or added step is named", async () => {
  const history = await record("8d")
  const parts = async (handler: FunctionHandler) => verify(history, [define(handler)])

  expect(
    await parts(async ({ step }) => {
      await step.run("reserve", () => 1)
      await step.run("pay", () => 2)
    })
  ).toMatchObject({
    recorded: { stepKey: "charge:0", kind: "run" },
    asked: { stepKey: "pay:0" },
    missing: [{ name: "charge" }, { name: "cool-off" }, { name: "ship" }]
  })
  expect(
    await parts(async ({ step }) => {
      await step.run("reserve", () => 1)
      await step.sleep("charge", "1d")
    })
  ).toMatchObject({ recorded: { kind: "run", name: "charge" }, asked: { kind: "sleep" } })
  expect((await parts(async ({ step }) => step.run("reserve", () => 1)))?.message).toContain(
    "the code returns without it. No longer asked for: charge:0, cool-off:0, ship:0"
  )
  expect(
    await parts(async (context) => {
      await original.handler(context)
      await context.step.run("thank", () => 4)
    })
  ).toMatchObject({ asked: { name: "thank" }, missing: [] })
})

test("an open wait that was renamed or removed is named, but no open wait of a race", async () => {
  const history = await record("1d")
  const [renamed, removed] = await Promise.all(
    ["cool down", undefined].map((name) =>
      verify(history, [
        define(async ({ step }) => {
          await step.run("reserve", () => 1)
          await step.run("charge", () => 2)
          if (name !== undefined) await step.sleep(name, "7d")
        })
      ])
    )
  )
  expect(renamed).toMatchObject({ missing: [{ name: "cool-off" }], asked: { name: "cool down" } })
  expect(removed).toMatchObject({ missing: [{ name: "cool-off" }] })
  expect(removed?.message).toContain("the code returns without it")

  const racing = IronflowFunction.make({ id: "order", triggers: [{ event: "order.placed" }] }, () =>
    Effect.andThen(
      Effect.race(Step.sleep("short", "1h"), Step.sleep("long", "7d")),
      Step.sleep("after", "7d")
    )
  )
  await using engine = await createTestEngine({ functions: [racing] })
  const { runIds } = await engine.client.emit("order.placed", {})
  await engine.advance("2h")
  expect(await verify(await engine.history(runIds[0] ?? ""), [racing])).toBeUndefined()
})

class Prices extends Context.Service<Prices, { readonly inCents: number }>()("test/Prices") {}

test("a handler gets its services from the context, and a missing service is not reported as a divergence", async () => {
  const priced = IronflowFunction.make(
    { id: "order", triggers: [{ event: "order.placed" }] },
    Effect.fnUntraced(function* () {
      const { inCents } = yield* Prices
      yield* Step.run(inCents > 100 ? "reserve" : "gift", Effect.succeed(1))
    })
  )
  const history = await record("1d")
  const verifying = Testing.verify(history, [priced])
  const at = (inCents: number) =>
    Effect.runPromise(Effect.provideService(verifying, Prices, Prices.of({ inCents })))

  expect(await at(200)).toMatchObject({ recorded: { name: "charge" } })
  expect(await at(1)).toMatchObject({ recorded: { name: "reserve" }, asked: { name: "gift" } })
  // a caller without types may do this
  const untyped: Parameters<typeof verify>[1] = JSON.parse("[]").concat(priced)
  const ending = verify(history, untyped)
  await expect(ending).rejects.toMatchObject({ code: "SERVICE_MISSING" })
  await expect(ending).rejects.toThrow('needs the service "test/Prices" outside of its steps')
})

test("ironflow verify reads a database beside the engine that has it open", { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(import.meta.dirname, "../.examples-"))
  const write = (file: string, second: string): string => {
    const path = join(folder, file)
    writeFileSync(
      path,
      `import { createFunction } from "@ironflow/node"
export const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
  await step.run("reserve", () => 1)
  await step.run("${second}", () => 2)
  await step.sleep("cool-off", "7d")
})
`
    )
    return path
  }
  const filename = join(folder, "orders.db")
  const ironflow = (...args: ReadonlyArray<string>) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) =>
      execFile(
        process.execPath,
        [...nodeArguments(), ...commandArguments(), ...args],
        (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), stdout, stderr })
      )
    )
  try {
    await using engine = await startEngine({ filename, functions: [original], logger: false })
    const { runIds } = await engine.client.emit("order.placed", {})
    const [runId = ""] = runIds
    await expect.poll(async () => (await engine.client.explain(runId)).code).toBe("SLEEPING")

    expect(await ironflow("verify", write("same.ts", "charge"), "--data", filename)).toMatchObject({
      code: 0,
      stdout: "1 run verified, of which 0 diverged.\n"
    })
    const changed = await ironflow("verify", write("changed.ts", "pay"), "--data", filename, "--json")
    expect(changed.code).toBe(1)
    expect(JSON.parse(changed.stdout)).toMatchObject({
      verified: 1,
      divergences: [{ runId, recorded: { name: "charge" }, asked: { name: "pay" } }]
    })
    const withService = join(folder, "needy.ts")
    writeFileSync(
      withService,
      `import { IronflowFunction } from "@ironflow/node/effect"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
class Prices extends Context.Service<Prices, number>()("Prices") {}
export const order = IronflowFunction.make(
  { id: "order", triggers: [{ event: "order.placed" }] },
  () => Effect.asVoid(Effect.service(Prices))
)
`
    )
    const unverified = await ironflow("verify", withService, "--data", filename, "--json")
    expect(unverified.code).toBe(1)
    expect(JSON.parse(unverified.stdout)).toMatchObject({
      verified: 0,
      divergences: [],
      needServices: [{ runId }]
    })
    expect(unverified.stderr).toContain("has no services for Effect handlers")
    const exported = JSON.parse((await ironflow("runs", "export", runId, "--data", filename)).stdout)
    expect(await verify(exported, [original])).toBeUndefined()
    expect(await engine.client.getRun(runId)).toMatchObject({ status: "waiting" })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
