/**
 * A process beside tests that put a server under load. Between the messages `watch` and `report` it checks the server all the
 * time and works as a client of it. Then it reports the worst values.
 */
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { Vitals } from "./fuzz/Vitals.ts"
import type { Seen } from "./Pressed.ts"

const [url = "", pid = ""] = process.argv.slice(2)
const vitals = new Vitals(Number(pid))
const nothing = () => ({ healthMs: 0, rssMb: 0, calls: 0, callMs: 0, problems: [] as Array<string> })
let seen = nothing()
let isOver = false
let living: Promise<unknown> = Promise.resolve()

const checks = async (): Promise<void> => {
  for (; !isOver; await delay(20)) {
    const { answer, rssMb, workedMs } = await vitals.check(url, 20_000)
    seen.healthMs = Math.max(seen.healthMs, workedMs)
    seen.rssMb = Math.max(seen.rssMb, rssMb)
    if (answer !== 200) seen.problems.push(`health: ${answer}`)
    process.send?.("checked")
  }
}

const calls = async (): Promise<void> => {
  for (; !isOver; await delay(50)) {
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

process.on("message", async (message) => {
  if (message === "watch") {
    seen = nothing()
    isOver = false
    living = Promise.all([checks(), calls()]).catch((error: unknown) => {
      seen.problems.push(String(error))
    })
  } else {
    isOver = true
    await living
    process.send?.(seen satisfies Seen)
  }
})
process.on("disconnect", () => process.exit(1))
process.send?.("ready")
