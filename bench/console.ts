/**
 * What open tabs of the console cost the engine: its processor time with 20 tabs of each page, while nothing changes and while
 * five runs start each second. `node --conditions=@ironflow/source bench/console.ts [tabs] [seconds] [page ...]`; ONLY=live
 * leaves out the time without traffic. On a machine that cannot draw so many tabs, open fewer and multiply. Linux only.
 */
import { rmSync } from "node:fs"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import type { Page } from "puppeteer-core"
import { launch } from "../test/console/Chromium.ts"
import { openShop } from "../test/console/Shop.ts"
import { startConsole } from "./consoleEngine.ts"

const [tabs = 20, seconds = 15] = process.argv.slice(2, 4).map(Number)
/** How long to wait until pages make only their regular calls. After five equal answers, a page calls less often. */
const SETTLE_MS = 12_000
const RUNS_A_SECOND = 5

const { cpuMs, engine, folder, url } = await startConsole()

const measure = async (): Promise<number> => {
  const [before, begun] = [cpuMs(), performance.now()]
  await sleep(seconds * 1000)
  return (100 * (cpuMs() - before)) / (performance.now() - begun)
}

// the pages show what runs log, so the terminal need not
process.env.IRONFLOW_LOG_LEVEL ??= "error"
const shop = await openShop({ url })
const browser = await launch()
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
  const named = process.argv.slice(4)
  const places =
    named.length > 0
      ? named
      : [
          "",
          "runs",
          `runs/${ended}`,
          `runs/${waiting}`,
          "runs?by=event.data.customerId",
          "functions/ship-order",
          "events",
          "find?q=o-17",
          "system"
        ]
  let isOpen = false
  const trade = async (): Promise<void> => {
    for (let n = 2000; ; n++) {
      await sleep(1000 / RUNS_A_SECOND)
      // two runs for each order
      if (isOpen && n % 2 === 0)
        void shop.client
          .emit("order.placed", { orderId: `o-${n}`, customerId: `c-${n % 10}` })
          .catch(() => undefined)
    }
  }
  void trade()
  const rows: Array<object> = []
  for (const isLive of process.env["ONLY"] === "live" ? [true] : [false, true]) {
    isOpen = isLive
    await sleep(3000)
    const without = await measure()
    rows.push({ traffic: isLive, page: "(no tab)", "engine, %": without.toFixed(2) })
    for (const place of places) {
      const context = await browser.createBrowserContext()
      const pages: Array<Page> = []
      for (let i = 0; i < tabs; i++) {
        const page = await context.newPage()
        await page.goto(`${url}/console/${place}`, { waitUntil: "load" })
        await page.evaluate("performance.setResourceTimingBufferSize(10000)")
        pages.push(page)
      }
      await sleep(SETTLE_MS)
      const countCalls = async (): Promise<number> => {
        const counts = await Promise.all(
          pages.map((page) => page.evaluate("document.hidden ? 0 : performance.getEntries().length"))
        )
        return counts.reduce<number>((sum, count) => sum + Number(count), 0)
      }
      const before = await countCalls()
      const share = await measure()
      const calls = (await countCalls()) - before
      rows.push({
        traffic: isLive,
        page: place === "" ? "overview" : place,
        "engine, %": share.toFixed(2),
        "of tabs, %": (share - without).toFixed(2),
        "calls a second": (calls / seconds).toFixed(1)
      })
      console.log(JSON.stringify(rows.at(-1)))
      await context.close()
    }
  }
  console.table(rows)
} finally {
  engine.kill("SIGINT")
  await browser.close()
  rmSync(folder, { recursive: true, force: true })
}
process.exit(0)
