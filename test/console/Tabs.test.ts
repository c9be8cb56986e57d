/** Real browsers: several tabs, a wrong clock, and words that are too long or run from right to left. */
import { createFunction } from "@ironflow/node"
import { assert, describe, it, vi } from "vitest"
import { useConsole } from "./Browser.ts"
import { engineWithWorker, visitor } from "./Visitors.ts"

const kit = useConsole()

describe("tabs of one browser", () => {
  it("use the key of the last sign-in, and show nothing of the earlier one", async () => {
    await using it = await visitor(kit, ["role_viewer"], "staging")
    const { secret } = await it.client.apiKeys.create({
      name: "second",
      envId: "default",
      role_ids: ["role_viewer"]
    })
    const other = await it.look.page.browserContext().newPage()
    await other.goto(`${it.url}/console/runs`, { waitUntil: "load" })
    await other.locator("::-p-aria(Sign out)").click()

    // the first tab is notified
    await it.look.sees("ironflow apikeys create")
    await other.locator("::-p-aria(API key)").fill(secret)
    await other.keyboard.press("Enter")
    await it.look.sees("second")
    await it.look.seesNoMore("visitor")
    await it.look.seesNoMore("staging")
    await it.look.sees("There are no runs in this environment yet")
    assert.notInclude(it.look.page.url(), "env=staging")
  })

  it("share answers of the engine, and see their own changes at once", async () => {
    await using it = await engineWithWorker(kit, [
      createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, () => 1)
    ])
    const look = await kit.look(it.url)
    const sent: Array<string | undefined> = []
    look.page.on("request", (request) => {
      if (request.url().includes("GetFunction")) sent.push(request.headers()["cache-control"])
    })

    await look.open("functions/ship")
    await look.sees("Run now")
    await vi.waitUntil(() => sent.length > 1, 20_000)
    assert.deepStrictEqual(sent.slice(0, 2), [undefined, "max-age=1"])
    await look.press("Pause")
    const before = sent.length
    await look.submit("Pause", { reason: "stock-taking" })
    await look.sees("by console: stock-taking")
    assert.include(sent.slice(before), undefined)
  })
})

describe("a browser whose clock is ten minutes slow", () => {
  it("shows how long ago things happened, by the clock of the engine", async () => {
    await using it = await engineWithWorker(kit, [
      createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, () => 1)
    ])
    const look = await kit.look(it.url)
    await look.page.evaluateOnNewDocument(
      "const real = Date.now.bind(Date); Date.now = () => real() - 600_000"
    )
    const { runIds } = await it.client.emit("order.placed", {})
    await it.client.waitForRun(runIds[0]!)

    await look.open("runs")
    await look.sees(/just now|\d+ s ago/)
    await look.open("runs?created-from=5m")
    await look.sees(runIds[0]!)
    await look.open("runs?created-to=5m")
    await look.sees("No run matches these filters")
  })
})

describe("a sentence of the engine", () => {
  it("has its times in the zone that the page shows", async () => {
    await using it = await engineWithWorker(kit, [
      createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, () => 1)
    ])
    const { runIds } = await it.client.emit("order.placed", {})
    const { endedAt = "" } = await it.client.waitForRun(runIds[0]!)
    const look = await kit.look(it.url)
    await look.page.emulateTimezone("Asia/Kathmandu")

    await look.open(`runs/${runIds[0]}`)
    await look.sees(/It completed at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+05:45/)
    await look.press("Local time")
    await look.sees(`It completed at ${endedAt.replace("T", " ").replace("Z", " UTC")}`)
  })
})

describe("names of the greatest length", () => {
  it("leave every page as wide as the screen", async () => {
    const id = "w".repeat(120)
    const text = `${"م".repeat(150)}${"x".repeat(400)}`
    await using it = await engineWithWorker(kit, [
      createFunction({ id, triggers: [{ event: `e.${"v".repeat(120)}` }], retry: { maxAttempts: 1 } }, () => {
        throw new Error(text)
      })
    ])
    const { eventId, runIds } = await it.client.emit(`e.${"v".repeat(120)}`, { [text.slice(0, 200)]: text })
    await it.client.waitForRun(runIds[0]!).catch(() => undefined)
    const tooWide: Array<string> = []
    for (const width of [1280, 400]) {
      const look = await kit.look(it.url, { width })
      for (const place of [
        "",
        "runs",
        `runs/${runIds[0]}`,
        "functions",
        `functions/${id}`,
        "events",
        `events/${eventId}`,
        "runs?by=function",
        "find?q=www"
      ]) {
        await look.open(place)
        await look.sees(place.startsWith("events") ? "vvvv" : "wwww")
        const widest = await look.page.evaluate(
          "document.documentElement.scrollWidth <= innerWidth ? undefined : [...document.querySelectorAll('main *')].filter((it) => it.closest('.scroll') === null && it.getBoundingClientRect().right > innerWidth).at(-1)?.outerHTML.slice(0, 200)"
        )
        if (widest !== undefined) tooWide.push(`${place.slice(0, 20)} at ${width}: ${String(widest)}`)
      }
    }
    assert.deepStrictEqual(tooWide, [])
  })
})
