/**
 * Takes pictures of every page of the console for documents: `npm run pictures`, optionally followed by the address of a
 * running engine. They are stored in `node_modules/.cache/console-pictures/docs`: light, dark, and 400 and 320 pixels wide.
 */
import { spawn } from "node:child_process"
import { mkdirSync } from "node:fs"
import path from "node:path"
import process from "node:process"
import { createInterface } from "node:readline"
import { buildConsole } from "../../console.config.ts"
import { launch } from "./Chromium.ts"

const root = path.join(import.meta.dirname, "../..")
const folder = path.join(root, "node_modules/.cache/console-pictures/docs")
/** How long the shop runs before the pictures are taken, in milliseconds. */
const OPEN_MS = 20_000

/** Starts the shop of the demo. The first thing that it prints is its address. */
const openShop = async () => {
  await buildConsole(path.join(root, "dist/console"))
  const shop = spawn(
    process.execPath,
    [
      "--conditions=@ironflow/source",
      "--disable-warning=ExperimentalWarning",
      "examples/demo/demo.ts",
      "300"
    ],
    { cwd: root, stdio: ["ignore", "pipe", "inherit"] }
  )
  for await (const line of createInterface({ input: shop.stdout })) {
    const url = /http:\S+?(?=\/console\/)/.exec(line)?.[0]
    if (url === undefined) continue
    await new Promise((resolve) => setTimeout(resolve, OPEN_MS))
    return { url, close: () => shop.kill("SIGINT") }
  }
  throw new Error("The demo has ended before it said where it is")
}

const given = process.argv[2]
const { close, url } = given === undefined ? await openShop() : { url: given, close: () => true }

/** The pages. `one` is the page of the first item of a list. */
const places = [
  { place: "", name: "overview" },
  { place: "find?q=c-3", name: "find" },
  { place: "runs", name: "runs", one: "run" },
  { place: "runs?status=failed&by=event.data.customerId", name: "counts" },
  { place: "bulk", name: "bulk", one: "bulk-operation" },
  { place: "events", name: "events", one: "event" },
  { place: "functions", name: "functions", one: "function" },
  { place: "schedules", name: "schedules" },
  { place: "workers", name: "workers", one: "worker" },
  { place: "projections", name: "projections", one: "projection" },
  { place: "topics", name: "topics", one: "group" },
  { place: "streams", name: "streams", one: "stream" },
  { place: "keys", name: "keys", one: "bucket" },
  { place: "configurations", name: "configurations", one: "configuration" },
  { place: "push", name: "push" },
  { place: "access", name: "access" },
  { place: "secrets", name: "secrets" },
  { place: "system", name: "system" }
]
const looks = [
  { look: "light", scheme: "light", width: 1280, height: 900 },
  { look: "dark", scheme: "dark", width: 1280, height: 900 },
  { look: "narrow", scheme: "light", width: 400, height: 860 },
  { look: "narrowest", scheme: "dark", width: 320, height: 700 }
] as const

mkdirSync(folder, { recursive: true })
const browser = await launch()
try {
  const page = await browser.newPage()
  const take = async (name: string): Promise<void> => {
    // wait for two answers of a call that is made once a second
    await new Promise((resolve) => setTimeout(resolve, 1500))
    await page.screenshot({ path: path.join(folder, `${name}.png`) })
    console.log(`${name}.png`)
  }
  for (const { height, look, scheme, width } of looks) {
    await page.setViewport({ width, height })
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }])
    for (const { name, one, place } of places) {
      await page.goto(`${url}/console/${place}`, { waitUntil: "load" })
      await take(`${name}-${look}`)
      if (one === undefined) continue
      const href = await page.$eval(".list .row:not(.head) a", (link) => link.href).catch(() => undefined)
      if (href === undefined) continue
      await page.goto(href, { waitUntil: "load" })
      await take(`${one}-${look}`)
    }
  }
} finally {
  await browser.close()
  close()
}
console.log(`Pictures are in ${path.relative(process.cwd(), folder)}.`)
