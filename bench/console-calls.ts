/**
 * What open tabs of the console cost the engine, by counting. Records the calls of one tab of each page for some seconds while
 * runs are active, and closes the tab. Then makes each of these calls some hundred times, one after the other, and divides the
 * engine's processor time by the number of calls. No tab is open then, so the result is the same on a busy machine. Also prints
 * when a page is first painted, and what the browser has loaded for it. Linux only. `node --conditions=@ironflow/source
 * bench/console-calls.ts [tabs] [seconds] [page ...]`
 */
import { rmSync } from "node:fs"
import { Agent, request } from "node:http"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { createFunction, createWorker } from "@ironflow/node"
import { launch } from "../test/console/Chromium.ts"
import { openShop } from "../test/console/Shop.ts"
import { startConsole } from "./consoleEngine.ts"

const [tabs = 20, seconds = 10] = process.argv.slice(2, 4).map(Number)
const RUNS_A_SECOND = 5
/** How long to wait until a page makes only its regular calls. */
const SETTLE_MS = 3000
const CALLS = 400
/** How many steps the run that changes every second has when its page is opened. */
const STEPS = 40

interface RecordedCall {
  readonly method: string
  readonly url: string
  readonly body: string | undefined
  readonly headers: { readonly [name: string]: string }
}

interface Loaded {
  readonly paintMs: number
  readonly files: number
  readonly bytes: number
}

const { cpuMs, engine, folder, url } = await startConsole()

const agent = new Agent({ keepAlive: true, maxSockets: 1 })

/** The status and the size of the answer. */
const call = ({
  body,
  headers,
  method,
  url
}: RecordedCall): Promise<readonly [status: number, bytes: number]> =>
  new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, agent }, (response) => {
      let bytes = 0
      response.on("data", (chunk: Buffer) => (bytes += chunk.length))
      response.on("end", () => resolve([response.statusCode ?? 0, bytes]))
    })
    sent.on("error", reject)
    sent.end(body)
  })

/** The engine's processor time for one call, in milliseconds. */
const costOf = async (recordedCall: RecordedCall): Promise<number> => {
  for (let i = 0; i < CALLS / 8; i++) await call(recordedCall)
  const before = cpuMs()
  for (let i = 0; i < CALLS; i++) await call(recordedCall)
  return (cpuMs() - before) / CALLS
}

// the pages show what runs log, so the terminal need not
process.env.IRONFLOW_LOG_LEVEL ??= "error"
const shop = await openShop({ url })
const busy = createFunction({ id: "busy", triggers: [{ event: "busy" }] }, async ({ step }) => {
  for (let n = 1; n < 1000; n++) {
    await step.run(`look ${n}`, () => ({ found: n }))
    if (n > STEPS) await step.sleep(`rest ${n}`, 900)
  }
})
const worker = createWorker({ serverUrl: url, functions: [busy], logger: false })
void worker.start()
await worker.ready()
try {
  for (let n = 1; n <= 300; n += 10) {
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        shop.order({ orderId: `o-${n + i}`, customerId: `c-${i}`, fails: i === 3 })
      )
    )
  }
  const ended = await shop.order({ orderId: "o-1000" })
  const waiting = await shop.order({ orderId: "o-1001", waits: true })
  const { eventId, runIds } = await shop.client.emit("busy", {})
  let isOpen = true
  const trade = async (): Promise<void> => {
    for (let n = 2000; isOpen; n += 2) {
      // two runs for each order
      await sleep(2000 / RUNS_A_SECOND)
      void shop.client
        .emit("order.placed", { orderId: `o-${n}`, customerId: `c-${n % 10}` })
        .catch(() => undefined)
    }
  }
  void trade()
  const named = process.argv.slice(4)
  const places = (
    named.length > 0
      ? named
      : [
          "",
          "runs",
          "runs/ENDED",
          "runs/WAITING",
          "runs/BUSY",
          "runs?by=event.data.customerId",
          "functions",
          "functions/ship-order",
          "events",
          "events/EVENT",
          "workers",
          "find?q=o-17",
          "system"
        ]
  ).map((place) =>
    place
      .replace("ENDED", ended)
      .replace("WAITING", waiting)
      .replace("BUSY", runIds[0] ?? "")
      .replace("EVENT", eventId)
  )
  const browser = await launch()
  const recorded: Array<{
    readonly place: string
    readonly calls: Map<string, Array<RecordedCall>>
    readonly loaded: Loaded
  }> = []
  for (const place of places) {
    const page = await browser.newPage()
    await page.goto(`${url}/console/${place}`, { waitUntil: "load" })
    await sleep(SETTLE_MS)
    // the expression has a value of this type
    const loaded = (await page.evaluate(`{
      const all = performance.getEntries()
      const files = all.filter(({ name }) => /\\/console\\/(?!session)/.test(name))
      ;({
        paintMs: all.find(({ name }) => name === "first-contentful-paint")?.startTime ?? 0,
        files: files.length,
        bytes: files.reduce((sum, { transferSize = 0 }) => sum + transferSize, 0)
      })
    }`)) as Loaded
    const calls = new Map<string, Array<RecordedCall>>()
    page.on("request", (asked) => {
      const { pathname, searchParams } = new URL(asked.url())
      const body = asked.postData()
      // times and cursors differ between equal calls
      const what = `${asked.method()} ${pathname} ${[...searchParams.keys()]} ${(body ?? "").replace(/\d{4}-\d\d-\d\dT[^"]*/g, "")}`
      const { cookie: _, ...headers } = asked.headers()
      calls.set(what, [
        ...(calls.get(what) ?? []),
        { method: asked.method(), url: asked.url(), body, headers: { ...headers, origin: url } }
      ])
    })
    await sleep(seconds * 1000)
    await page.close()
    recorded.push({ place, calls, loaded })
  }
  await browser.close()
  isOpen = false
  await sleep(2000)
  const rows: Array<object> = []
  for (const { calls, loaded, place } of recorded) {
    let total = 0
    for (const [what, all] of calls) {
      const perTab = all.length / seconds
      const recordedCall = all.at(-1)!
      const [status, bytes] = await call(recordedCall)
      const { "cache-control": shared, ...headers } = recordedCall.headers
      const freshCost = await costOf({ ...recordedCall, headers })
      const repeatCost = shared === undefined ? freshCost : await costOf(recordedCall)
      const callsPerSecond = perTab * tabs
      // the engine computes a shared answer at most once a second
      const freshPerSecond = shared === undefined ? callsPerSecond : Math.min(callsPerSecond, 1)
      const percent = (freshPerSecond * freshCost + (callsPerSecond - freshPerSecond) * repeatCost) / 10
      total += percent
      rows.push({
        page: place,
        call: what.slice(0, 90),
        status,
        bytes,
        "a second": perTab,
        "ms each": freshCost.toFixed(2),
        "ms shared": repeatCost.toFixed(2),
        [`% with ${tabs}`]: percent.toFixed(2)
      })
    }
    rows.push({ page: place, call: "ALL", [`% with ${tabs}`]: total.toFixed(2) })
    console.log(
      `${place || "overview"}: ${total.toFixed(2)} %; first paint after ${loaded.paintMs.toFixed(0)} ms, ${loaded.files} files, ${loaded.bytes} bytes`
    )
  }
  console.table(rows)
} finally {
  agent.destroy()
  engine.kill("SIGINT")
  rmSync(folder, { recursive: true, force: true })
}
process.exit(0)
