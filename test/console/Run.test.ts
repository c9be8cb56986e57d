/** The page of one run: why it waits, what it did, and what a user can do to it. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import process from "node:process"
import { createFunction, createWorker } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { openShop, ship } from "./Shop.ts"
import { engineWithWorker, OPERATOR, visitor } from "./Visitors.ts"

const kit = useConsole()

describe("the page of a run", () => {
  it("shows the steps of a run with times and values", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", customerId: "c-7" })
    const look = await kit.look(shop.url)

    await look.open(`runs/${id}`)
    await look.sees("It completed at")
    for (const step of ["charge", "prepare 2 /", "pack", "cool off", "print-label"]) await look.sees(step)
    await look.sees("attempt 2")
    await look.sees('"receipt": "r-o-1"')
    await look.sees("begun")
    await look.sees("step.retrying")
    await look.press("charge")
    await look.sees("Patch its value")

    assert.include(look.page.url(), "step=")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("run-light")
  })

  it("shows an error with the lines of the user's code, and its message as text", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", customerId: "c-7", fails: true })
    const look = await kit.look(shop.url, { scheme: "dark" })

    await look.open(`runs/${id}`)
    await look.sees("TypeError: no van for c-7 <script>alert(1)</script>")
    await look.sees(/Shop\.ts:\d+/)
    await look.sees("Retry")

    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("run-failed-dark")
  })

  it("links to the parent run, and not to an event that does not exist", async () => {
    await using shop = await openShop(await kit.serve())
    const parent = await shop.order({ orderId: "o-1" })
    const { runs } = await shop.client.listRuns({ functionId: "print-label" })
    const child = runs[0]?.id ?? ""
    const look = await kit.look(shop.url)

    await look.open(`runs/${child}`)
    await look.sees("Invoked by")
    assert.notMatch(String(await look.page.evaluate("document.body.innerHTML")), /href="[^"]*events\/evt/)
    await look.press(parent)
    await look.sees("charge")
    assert.match(String(await look.page.evaluate("document.body.innerHTML")), /href="[^"]*events\/evt/)
  })

  it("shows the beginning of a long error, and the rest on request", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", customerId: `${"x".repeat(5000)}end`, fails: true })
    const look = await kit.look(shop.url)

    await look.open(`runs/${id}`)
    await look.sees("Show all 5,0")
    assert.notInclude(
      String(await look.page.evaluate(`document.querySelector("div.failure strong").innerText`)),
      "xend"
    )
    await look.picture("run-long-error")
    await look.page.locator("div.failure strong button").click()
    await look.page.waitForFunction(`document.querySelector("div.failure strong").innerText.includes("xend")`)
  })

  it("explains why a run waits, and pauses, resumes and cancels it", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", waits: true })
    const look = await kit.look(shop.url, { width: 400 })

    await look.open(`runs/${id}`)
    await look.sees(/waits for event "?order\.approved/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("run-waiting-narrow")

    await look.press("Pause")
    await look.sees("until somebody resumes it")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.submit("Pause", { reason: "stock-taking" })
    await look.sees("It is paused: stock-taking.")
    assert.notInclude(await look.text(), "resumeRun")
    await look.press("Resume")
    await look.sees("The run continues.")
    await look.press("Cancel")
    await look.submit("Cancel", { reason: "customer <b>left</b>" })
    await look.sees("customer <b>left</b>")
    await look.sees("cancelled")
    assert.strictEqual((await shop.client.getRun(id)).status, "cancelled")
  })

  it("retries a run, with another value of a step", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", fails: true })
    const look = await kit.look(shop.url)
    const broken = (await shop.client.getRunSteps(id)).find(({ name }) => name === "hand over")

    await look.open(`runs/${id}?step=${encodeURIComponent(broken?.id ?? "")}`)
    await look.press("Patch its value")
    await look.submit("Patch its value", { output: "{ not JSON" })
    await look.sees("This is not JSON")
    await look.sees(/- null\s+\+ \{ not JSON/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("patch")
    await look.submit("Patch its value", { output: '"by bike"', reason: "no van" })
    await look.sees("The step has this value now")
    await look.press("Retry")
    await look.submit("Retry", {})
    await look.sees("It completed at")

    assert.strictEqual((await shop.client.getRun(id)).status, "completed")
  })

  it("forks a run from a step, with another result and other data", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", customerId: "c-7" })
    const steps = await shop.client.getRunSteps(id)
    const stepOf = (wanted: string): string => steps.find(({ name }) => name === wanted)?.id ?? ""
    const look = await kit.look(shop.url)

    await look.open(`runs/${id}`)
    await look.press("Fork")
    await look.sees("This run stays as it is.")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("fork")
    await look.submit("Fork", { result: '"r-2"' })
    await look.sees("Choose the step that gets this result.")
    await look.submit("Fork", {
      from: stepOf("print-label"),
      patched: stepOf("charge"),
      result: '{ "receipt": "r-2" }',
      data: '{ "orderId": "o-1", "customerId": "c-8" }'
    })
    await look.sees(`is a fork of run ${id}.`)
    await look.sees("It completed at")
    await look.sees('"receipt": "r-2"')

    const [fork] = (await shop.client.listRuns({ functionId: "ship-order" })).runs
    assert.deepInclude(fork?.output, { receipt: { receipt: "r-2" }, customerId: "c-8" })
    assert.deepInclude((await shop.client.getRun(id)).output, { receipt: { receipt: "r-o-1" } })
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("forked")
    await look.page.setViewport({ width: 400, height: 900 })
    await look.press("Fork")
    await look.sees("This run stays as it is.")
    await look.picture("fork-narrow")
    await look.submit("Leave it", {})
    await look.press(id)
    await look.seesNoMore("Forked from")
  })

  it("moves a pinned run to another version of its function", async () => {
    const version = (name: string) =>
      createFunction(
        { id: "approve", version: name, versioning: "pin", triggers: [{ event: "approval.asked" }] },
        async ({ step }) => {
          await step.waitForEvent("answer", { event: "approval.given", timeout: "1h" })
          return step.run("note", () => `noted by ${name}`)
        }
      )
    await using old = await engineWithWorker(kit, [version("1.0")])
    const [id = ""] = (await old.client.emit("approval.asked", {})).runIds
    const look = await kit.look(old.url, { width: 400 })
    await look.open(`runs/${id}`)
    await look.sees("Pinned to version")
    await look.sees("1.0")
    const worker = createWorker({ serverUrl: old.url, functions: [version("2.0")], logger: false })
    const stopped = worker.start()
    await worker.ready()

    await look.open(`runs/${id}`)
    await look.press("Move")
    await look.sees("The run is pinned to version 1.0.")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("move-narrow")
    await look.submit("Move", { version: "2.0" })
    await look.sees("The run continues with version 2.0.")
    await old.client.emit("approval.given", {})
    assert.strictEqual((await old.client.waitForRun(id)).output, "noted by 2.0")
    await worker.stop()
    await stopped
  })

  it("refuses a fork for a key without the right", async () => {
    await using it = await visitor(kit, ["role_viewer"])
    await using shop = await openShop(it, OPERATOR)
    const id = await shop.order({ orderId: "o-1" })

    await it.look.open(`runs/${id}`)
    await it.look.press("Fork")
    await it.look.submit("Fork", {})
    await it.look.sees("You may not do this.")
    await it.look.sees("run:fork")
  })

  it("generates a test that repeats the run", async () => {
    await using shop = await openShop(await kit.serve())
    const folder = mkdtempSync(path.join(import.meta.dirname, "copied-"))
    try {
      for (const fails of [false, true]) {
        const id = await shop.order({ orderId: "o-1", customerId: "c-7", fails })
        const look = await kit.look(shop.url)
        await look.open(`runs/${id}`)
        await look.press("Copy as test")
        await look.sees("The recorded results replace the code of the steps")
        assert.deepStrictEqual(await look.accessibility(), [])
        const copied = String(await look.page.evaluate('document.querySelector("dialog pre").textContent'))
        assert.include(copied, ship.config.id)
        writeFileSync(
          path.join(folder, "copied.ts"),
          copied.replace("./functions.ts", "../Shop.ts").replace("{ shipOrder }", "{ ship as shipOrder }")
        )

        const said = execFileSync(
          process.execPath,
          ["--conditions=@ironflow/source", "--test", path.join(folder, "copied.ts")],
          { encoding: "utf8", cwd: folder, env: { ...process.env, NODE_TEST_CONTEXT: undefined } }
        )
        assert.match(said, /pass 1\b/)
      }
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it("reports a missing run", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)

    await look.open("runs/run_nobody")
    await look.sees("Not found.")
    await look.open("no/such/page")
    await look.sees("There is no such page")
  })
})
