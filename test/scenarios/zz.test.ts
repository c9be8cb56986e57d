import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createFunction } from "../../src/index.ts"
import { World } from "./World.ts"
it.effect("x", () => Effect.gen(function*(){
  const log = (s: string) => Effect.sync(() => process.stderr.write(s + "\n"))
  const parent = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => step.invoke("child", {}))
  let held = false
  const child = createFunction({ id: "child", triggers: [] }, async ({ step }) => step.invoke("number",{},{timeout:"1h"}));  const gc = createFunction({ id: "number", triggers: [] }, async ({ step }) => step.run("print", () => { held = true; return new Promise(() => {}) }))
  const world = yield* World.make({ functions: [parent, child, gc] })
  const runId = yield* world.place()
  yield* world.until("h", () => held)
  yield* log("held")
  yield* world.reaches(runId, "WAITING_FOR_CHILD")
  yield* log("waiting")
  yield* world.client.cancelRun(runId, "because")
  yield* log("cancelled")
  yield* log(JSON.stringify((yield* world.client.listRuns()).runs.map((r) => [r.functionId, r.status])))
  for (const w of (world as any)["client"] ? [] : []) yield* w
  yield* world.close
  yield* log("closed")
}), 3000)
