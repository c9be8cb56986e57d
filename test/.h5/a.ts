import { createFunction, createWorker, NonRetryableError, WaitTimeoutError } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
let fail = true
const f = createFunction({ id: "f", triggers: [{ event: "f" }], retry: {maxAttempts: 2, initialDelayMs: 20} }, async ({ step }) => {
  const a = await step.run("a", () => ({ at: Date.now() }))
  const b = await step.run("b", () => { if (fail) throw new NonRetryableError("no"); return "b" })
  return { a, b }
})
const w = createFunction({ id: "w", triggers: [{ event: "w" }] }, async ({ step, logger }) => {
  logger.info("start", {x: 1})
  const e = await step.waitForEvent("wait", { event: "w.ok", match: "event.data.amount >= trigger.data.amount", timeout: "5s" })
  const t = await step.waitForEvent("wait2", { event: "never", timeout: "100ms" }).catch((e) => e instanceof WaitTimeoutError)
  const c = await step.invoke("child", { n: 1 })
  const r = await Promise.race([step.sleep("s", "50ms").then(() => "sleep"), step.run("long", async () => { await new Promise(r => setTimeout(r, 300)); return "long" })])
  const p = await step.publish("topic", { hello: 1 })
  return { by: e.data, t, c, r, p }
})
const child = createFunction({ id: "child", triggers: [] }, async ({ event }) => event.data.n + 1)
await using engine = await startEngine({ filename: ":memory:", functions: [f, w, child] })
const c = engine.client
const r1 = (await c.emit("f", {})).runIds[0]!
let run = await c.waitForRun(r1); console.log(run.status, run.error)
console.log(await c.explain(r1))
fail = false
await c.retryRun(r1); run = await c.waitForRun(r1); console.log(run.status, run.output)
const r2 = (await c.emit("w", { amount: 5 })).runIds[0]!
while ((await c.explain(r2)).code !== "WAITING_FOR_EVENT") {}
console.log(await c.explain(r2))
await c.pauseRun(r2, "because"); console.log(await c.explain(r2)); await c.resumeRun(r2)
await c.emit("w.ok", { amount: 3 }); await c.emit("w.ok", { amount: 7 })
run = await c.waitForRun(r2); console.log(run.status, JSON.stringify(run.output), run.error)
for (const s of await c.getRunSteps(r2)) console.log(s.id, s.name, s.kind, s.status, JSON.stringify(s.output), s.error?.message)
const worker = createWorker({ engine, functions: [createFunction({id: "late", triggers: [{event: "late"}]}, async () => "late")], labels: { pool: "x" } })
const stopped = worker.start(); await worker.ready()
const r3 = (await c.emit("late", {})).runIds[0]!
console.log((await c.waitForRun(r3)).output); await worker.drain(); await stopped
const r4 = (await c.emit("late", {})).runIds[0]!
console.log(await c.explain(r4)); console.log(await c.listWorkers(), (await c.listFunctions()).map(f => f.id), await c.health())
try { await c.waitForRun(r4, { timeout: 50 }) } catch (e: any) { console.log(e.name, e.code, e.message) }
try { await c.getRun("nope") } catch (e: any) { console.log(e.name, e.code, e.message) }
try { await c.pauseRun(r1) } catch (e: any) { console.log(e.name, e.code, e.message) }
