/** Any id can be found from every page, and the shell commands of the console work. */
import { execFile } from "node:child_process"
import process from "node:process"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { openShop } from "./Shop.ts"
import { visitor } from "./Visitors.ts"
import { commandArguments } from "../Built.ts"

const kit = useConsole()

const bin = [process.execPath, ...commandArguments()].map((word) => `"${word}"`).join(" ")

/** Runs a command of the console in a shell, with the `ironflow` of this checkout. */
const inShell = async (copied: string): Promise<string> => {
  assert.match(copied, /^npx ironflow /)
  const env = { ...process.env, NO_COLOR: "1", IRONFLOW_SERVER_URL: undefined }
  const { stdout } = await promisify(execFile)("sh", ["-c", copied.replace("npx ironflow", bin)], { env })
  return stdout
}

describe("the search", () => {
  it("finds an order by its number on any page, with the reason why it is not shipped", async () => {
    await using shop = await openShop(await kit.serve())
    const { customerId, orderId } = { customerId: "c-7", orderId: "o-17" }
    const other = await shop.order({ orderId: "o-170" })
    const waiting = await shop.order({ orderId, customerId, waits: true })
    const failed = await shop.order({ orderId: "o-18", customerId, fails: true })
    const look = await kit.look(shop.url)

    await look.open("secrets")
    await look.sees("There are no secrets")
    await look.page.keyboard.press("/")
    await look.page.keyboard.type(orderId)
    await look.page.keyboard.press("Enter")
    await look.sees(waiting)
    assert.include(look.page.url(), "find?q=o-17")
    assert.notInclude(await look.text(), other)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("find-light")
    await look.press(waiting)
    await look.sees('Step "approval" waits for event "order.approved"')

    // it also finds a customer, words of an error, and a function
    await look.enter("Find anything", customerId)
    await look.sees(failed)
    await look.sees(waiting)
    await look.enter("Find anything", "no van")
    await look.sees(failed)
    await look.seesNoMore(waiting)
    await look.enter("Find anything", "ship")
    await look.sees("The function ship-order")
    await look.enter("Find anything", waiting)
    await look.sees("Timeline")
    assert.include(look.page.url(), `runs/${waiting}`)
  })

  it("finds numbers, entities and inputs of invoked runs", async () => {
    await using shop = await openShop(await kit.serve())
    const { runIds } = await shop.client.emit("label.wanted", { orderId: 4711, note: { deep: "x-1" } })
    await shop.client.streams.append("o-5", { name: "order.noted", data: {}, entityType: "order" })
    const order = await shop.order({ orderId: "o-6" })
    const look = await kit.look(shop.url, { width: 400, scheme: "dark" })

    await look.open("find?q=4711")
    await look.sees("orderId 4711")
    assert.include(await look.page.content(), `runs/${runIds[0]}`)
    await look.open("find?q=o-5")
    await look.sees("The stream of o-5")
    await look.open("find?q=o-6")
    await look.sees("print-label")
    assert.include(await look.page.content(), `runs/${order}`)
    assert.deepStrictEqual(await look.accessibility(), [])
    // deeper values are found with an expression, which the page shows
    await look.open("find?q=x-1")
    await look.sees("No run has this value")
    await look.open(`find?q=${encodeURIComponent(`it's "<b>`)}`)
    await look.sees("No run has this value")
    const command = await look.page.$eval(".empty code", (code) => code.textContent ?? "")
    assert.match(await inShell(command), /no such runs/)
  })

  it("reports what the key may not see", async () => {
    await using it = await visitor(kit, [])

    await it.look.open("find?q=o-1")
    await it.look.sees("You may not do this.")
  })
})

describe("a command that is copied for a shell", () => {
  it("works unchanged", async () => {
    await using shop = await openShop(await kit.serve())
    const id = await shop.order({ orderId: "o-1", customerId: "it's c-7", fails: true })
    const look = await kit.look(shop.url)
    await look.page.evaluateOnNewDocument(
      "navigator.clipboard.writeText = async (text) => { globalThis.copied = text }"
    )
    const copiedOn = async (place: string, seen: string): Promise<string> => {
      await look.open(place)
      await look.sees(seen)
      await look.press("Copy as CLI")
      await look.sees("Copied")
      return String(await look.page.evaluate("globalThis.copied"))
    }
    const { events } = await shop.client.listEvents({ name: "order.placed" })
    const attribute = encodeURIComponent("event.data.customerId=it's c-7")
    const copied = [
      await copiedOn(`runs/${id}`, "Timeline"),
      await copiedOn(`runs?status=failed&function=ship-order&attribute=${attribute}`, id),
      await copiedOn("runs?status=failed&by=event.data.customerId", "1 run in 1 group"),
      await copiedOn(`events/${events[0]!.id}`, "Runs that it has started")
    ]

    const [why, list, counts, event] = await Promise.all(copied.map(inShell))
    assert.include(why, "no van for it's c-7")
    assert.include(list, id)
    assert.match(counts ?? "", /it's c-7.*1/)
    assert.include(event, "o-1")
  })
})
