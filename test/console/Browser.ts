/** A real engine with its console, and pages in a real browser. */
import { mkdirSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import path from "node:path"
import type { Browser, BrowserContext, Page } from "puppeteer-core"
import { afterEach, assert, beforeAll } from "vitest"
import { builtPackage } from "../Built.ts"
import { isLong } from "../Long.ts"
import { type Ironflow, start, type StartOptions } from "../wire/Ironflow.ts"
import { sharedBrowser } from "./Chromium.ts"

const axeFile = createRequire(import.meta.url).resolve("axe-core/axe.min.js")

/** How long a page may take to show something, in milliseconds. */
const PATIENCE_MS = 20_000

interface Look {
  readonly page: Page
  /** Opens a page of the console, such as `runs?status=failed`. */
  readonly open: (place: string) => Promise<void>
  /** Waits until the page shows this text. When it never does, the error has the text of the page. */
  readonly sees: (text: string | RegExp) => Promise<void>
  readonly seesNoMore: (text: string | RegExp) => Promise<void>
  /** Presses the button or follows the link with this name. */
  readonly press: (name: string) => Promise<void>
  /** Types a text into the field with this label, and presses Enter. */
  readonly enter: (label: string, text: string) => Promise<void>
  /** Types a text into the field with this label. */
  readonly fill: (label: string, text: string) => Promise<void>
  /** Fills the form of the open dialog by the names of its fields, and presses the button. */
  readonly submit: (button: string, entered: { readonly [name: string]: string }) => Promise<void>
  readonly text: () => Promise<string>
  /** The problems that axe finds on the page. */
  readonly accessibility: () => Promise<ReadonlyArray<string>>
  /** Takes a picture, into a folder that is not committed. Only in a long run, because no test looks at it. */
  readonly picture: (name: string) => Promise<void>
  /** The complaints of the browser: violations of the policy, and errors of scripts. */
  readonly complaints: Array<string>
}

interface LookOptions {
  readonly scheme?: "light" | "dark"
  readonly width?: number
  readonly height?: number
}

interface Kit {
  /** Starts an engine that serves the console. */
  readonly serve: (options?: StartOptions) => Promise<Ironflow>
  readonly browser: () => Browser
  /** Opens a page in a new browser context. */
  readonly look: (url: string, options?: LookOptions) => Promise<Look>
}

/** Opens a browser and builds the console for the tests of a file. Fails when a page has complaints afterwards. */
export const useConsole = (): Kit => {
  let folder = ""
  let browser: Browser
  const servers: Array<Ironflow> = []
  const contexts: Array<BrowserContext> = []
  const looks: Array<Look> = []

  beforeAll(async () => {
    folder = path.join(builtPackage(), "dist/console")
    browser = await sharedBrowser()
  })
  afterEach(async () => {
    const complaints = looks.splice(0).flatMap((look) => look.complaints)
    for (const context of contexts.splice(0)) await context.close()
    for (const server of servers.splice(0)) await server.close()
    assert.deepStrictEqual(complaints, [])
  })

  const lookIn = async (
    context: BrowserContext,
    url: string,
    { height = 900, scheme = "light", width = 1280 }: LookOptions
  ): Promise<Look> => {
    const page = await context.newPage()
    await page.setViewport({ width, height })
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }])
    const look = lookAt(page, url)
    looks.push(look)
    return look
  }

  return {
    browser: () => browser,
    serve: async (options = {}) => {
      const server = await start({ consoleFolder: folder, ...options })
      servers.push(server)
      return server
    },
    look: async (url, options = {}) => {
      const context = await browser.createBrowserContext()
      contexts.push(context)
      return lookIn(context, url, options)
    }
  }
}

const lookAt = (page: Page, url: string): Look => {
  const complaints: Array<string> = []
  page.on("pageerror", (error) => complaints.push(`error: ${String(error)}`))
  page.on("console", (message) => {
    // some tests are about answers that are errors, and the page shows those
    if (message.type() !== "error" || message.text().startsWith("Failed to load resource")) return
    complaints.push(`console: ${message.text()}`)
  })
  const text = async (): Promise<string> => String(await page.evaluate("document.body.innerText"))
  const says = async (what: string | RegExp, isThere: boolean): Promise<void> => {
    const { flags, source } = what instanceof RegExp ? what : { source: quoted(what), flags: "" }
    const pattern = `new RegExp(${JSON.stringify(source)}, ${JSON.stringify(flags)})`
    try {
      await page.waitForFunction(`${pattern}.test(document.body.innerText) === ${isThere}`, {
        timeout: PATIENCE_MS,
        polling: 100
      })
    } catch (cause) {
      const shown = await text().catch(String)
      const problem = `The page ${isThere ? "does not say" : "still says"} ${String(what)}:\n${shown}`
      throw new Error(`${problem}\n${complaints.join("\n")}`, { cause })
    }
  }
  const element = (selector: string) => page.locator(selector).setTimeout(PATIENCE_MS)
  return {
    page,
    complaints,
    open: async (place) => {
      await page.goto(`${url}/console/${place}`, { waitUntil: "load" })
    },
    sees: (text) => says(text, true),
    seesNoMore: (text) => says(text, false),
    // a cell of a list is named by its content
    press: (name) =>
      element(
        ["button", "link"]
          .map((role) => `::-p-aria([name=${JSON.stringify(name)}][role="${role}"])`)
          .join(", ")
      ).click(),
    enter: async (label, text) => {
      await element(`aria/${label}`).fill(text)
      await page.keyboard.press("Enter")
    },
    fill: (label, text) => element(`aria/${label}`).fill(text),
    submit: async (button, entered) => {
      await element("dialog[open]").wait()
      for (const [name, value] of Object.entries(entered)) {
        await element(`dialog[open] [name="${name}"]`).fill(value)
      }
      await element(`dialog[open] ::-p-aria(${button}[role="button"])`).click()
    },
    text,
    accessibility: async () => {
      // axe runs outside the page, like developer tools, because the policy of the page refuses it
      const client = await page.createCDPSession()
      try {
        const { frameTree } = await client.send("Page.getFrameTree")
        const { executionContextId } = await client.send("Page.createIsolatedWorld", {
          frameId: frameTree.frame.id,
          worldName: "axe"
        })
        await client.send("Runtime.evaluate", {
          expression: readFileSync(axeFile, "utf8"),
          contextId: executionContextId
        })
        const { exceptionDetails, result } = await client.send("Runtime.evaluate", {
          expression:
            "axe.run(document, { resultTypes: ['violations'] }).then((it) => it.violations.map((one) => one.id + ': ' + one.help + ' ' + one.nodes.map((node) => node.target.join(' ') + ' ' + (node.any[0]?.message ?? '')).join('; ')))",
          contextId: executionContextId,
          awaitPromise: true,
          returnByValue: true
        })
        if (exceptionDetails !== undefined) throw new Error(`axe: ${exceptionDetails.exception?.description}`)
        return result.value as ReadonlyArray<string> // what the expression maps to
      } finally {
        await client.detach()
      }
    },
    picture: async (name) => {
      if (!isLong) return
      const pictures = path.join(import.meta.dirname, "../../node_modules/.cache/console-pictures")
      mkdirSync(pictures, { recursive: true })
      await page.screenshot({ path: path.join(pictures, `${name}.png`) })
    }
  }
}

const quoted = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
