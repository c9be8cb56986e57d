import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createFunction } from "../../src/Function.ts"
import * as Worker from "../../src/Worker/Worker.ts"
import { ScriptedTransport } from "./ScriptedTransport.ts"
it.live("refused end frees the slot", () => Effect.gen(function* () {
  const t = new ScriptedTransport()
  t.answer = () => ({ _tag: "Refused", reason: "LEASE_LOST", message: "x" })
  const fn = createFunction({ id: "quick", triggers: [{event:"a"}] }, async () => 1)
  const w = yield* Worker.make({ functions: [fn], logger: false, maxConcurrentJobs: 1 }).pipe(Effect.provide(t.layer))
  t.dispatch("run-1", "quick")
  yield* Effect.promise(() => t.until(() => t.batches.length === 1))
  yield* Effect.sleep(100)
  assert.strictEqual(yield* w.activeJobs, 0)
  yield* w.stop
}))
