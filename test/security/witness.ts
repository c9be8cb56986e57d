/**
 * A process beside a test that puts a server under load. It checks the server all the time, works as a client of it, and
 * reports the worst values at the end.
 */
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { Vitals } from "./fuzz/Vitals.ts"
import type { Seen } from "./Pressed.ts"

const [url = "", pid = ""] = process.argv.slice(2)
const vitals = new Vitals(Number(pid))
const seen = { healthMs: 0, rssMb: 0, calls: 0, callMs: 0, problems: [] as Array<string> }
let over = false

const checks = async (): Promise<void> => {
  for (; !over; await delay(20)) {
    const { answer, rssMb, workedMs } = await vitals.check(url, 20_000)
    seen.healthMs = Math.max(seen.healthMs, workedMs)
    seen.rssMb = Math.max(seen.rssMb, rssMb)
    if (answer !== 200) seen.problems.push(`health: ${answer}`)
    process.send?.("looked")
  }
}

const works = async (): Promise<void> => {
  for (; !over; await delay(50)) {
    const begun = performance.now()
    const worked = vitals.worked()
    const response = await fetch(`${url}/ironflow.v1.IronflowService/Trigger`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ event: "guest.came", data: { note: "x".repeat(10_000) } }),
      signal: AbortSignal.timeout(20_000)
    })
    await response.text()
    seen.callMs = Math.max(seen.callMs, Math.min(performance.now() - begun, vitals.worked() - worked))
    if (response.status !== 200) seen.problems.push(`a call: ${response.status}`)
    seen.calls++
  }
}

const living = Promise.all([checks(), works()]).catch((error: unknown) => {
  seen.problems.push(String(error))
})
process.on("message", async () => {
  over = true
  await living
  process.send?.(seen satisfies Seen)
  process.exit(0)
})
process.on("disconnect", () => process.exit(1))
process.send?.("ready")
